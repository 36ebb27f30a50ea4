package move

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kistdev/kist/internal/image"
)

// protocol is the version of the conversation. A newer daemon speaks the older one's.
const protocol = 1

// message is one message; one of its fields is set.
type message struct {
	Hello     *hello         `json:"hello,omitempty"`
	Image     *imageOffer    `json:"image,omitempty"`
	Wants     []want         `json:"wants,omitempty"`
	Layer     *int           `json:"layer,omitempty"`
	Tar       *tarOffer      `json:"tar,omitempty"`
	Mode      string         `json:"mode,omitempty"`
	From      *int64         `json:"from,omitempty"`
	Publish   bool           `json:"publish,omitempty"`
	Volume    *volumeOffer   `json:"volume,omitempty"`
	Container *containerPlan `json:"container,omitempty"`
	Done      *done          `json:"done,omitempty"`
	OK        bool           `json:"ok,omitempty"`
}

// hello begins the conversation.
type hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	// Store tells one store from another: nothing is moved to where it is.
	Store string `json:"store"`
	// Several says that a name may stand for several platforms' images there.
	Several bool `json:"several,omitempty"`
	// Item is what is going to be moved: what was kept of an earlier attempt is found by it.
	Item string `json:"item,omitempty"`
}

// imageOffer is an image that is to come.
type imageOffer struct {
	Config, Manifest []byte
	ManifestType     string
	Names            []image.MovedName
	Layers           []image.OutgoingLayer
	// Modest images take no name away from others: they come with a container, or for other platforms before the one that
	// has the names.
	Modest bool `json:",omitempty"`
	// Group joins the image with those that came before.
	Group *image.Group `json:",omitempty"`
}

// want is how the receiver wants a layer.
type want string

const (
	wantNot  want = "have"
	wantBlob want = "blob"
	wantTar  want = "tar"
)

// tarOffer is a tar that is to come, of about so many bytes.
type tarOffer struct {
	Size int64 `json:"size"`
}

// Modes of a tar.
const (
	modeInline = "inline"
	modeRecipe = "recipe"
)

// volumeOffer is a volume that is to come.
type volumeOffer struct {
	Name            string
	Labels, Options map[string]string
	Replace         bool `json:",omitempty"`
	// Mounted volumes are something to be mounted, and have no files of their own.
	Mounted bool `json:",omitempty"`
	Size    int64
}

// containerPlan is a container that is to come: first it is checked, then made.
type containerPlan struct {
	Name     string
	Request  container.CreateRequest
	Image    string // id
	OS, Arch string
	Networks []network.CreateRequest
	// Check asks only whether it could be made.
	Check bool `json:",omitempty"`
	// Start has it started.
	Start bool `json:",omitempty"`
	// Volumes of the move, which go again if the container cannot be made.
	Volumes []string
}

// done is the end.
type done struct {
	ID      string   `json:"id"`
	Running bool     `json:"running,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}
