// Package bootmsg is what `kist image bootstrap` and the daemon say to each other: one Request, answered by a stream of
// Messages, one JSON object a line.
package bootmsg

import "github.com/kistdev/kist/internal/fault"

// Request is an image to make of a distribution's packages.
type Request struct {
	// Suite as it was named: "debian:bookworm", "ubuntu:noble", "bookworm".
	Suite string `json:"suite"`
	// Tag is the image's name; empty means the suite's.
	Tag string `json:"tag,omitempty"`
	// Variant is essential, minbase, buildd, important or standard; empty means minbase.
	Variant string   `json:"variant,omitempty"`
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
	// Components as main; empty means those of the sources that are used, or main.
	Components []string `json:"components,omitempty"`
	// Arch is Debian's name of the architecture; empty means the daemon's own.
	Arch string `json:"arch,omitempty"`
	// Mirrors are addresses, or whole lines as in sources.list; without any, those of apt on the daemon's machine count.
	Mirrors []string `json:"mirrors,omitempty"`
	// Keyrings are the contents of keyring files; without any, those of apt on the daemon's machine count.
	Keyrings [][]byte `json:"keyrings,omitempty"`
	// Unsigned takes what nobody has signed. Stale takes lists whose time is up.
	Unsigned bool `json:"unsigned,omitempty"`
	Stale    bool `json:"stale,omitempty"`
	// Epoch is SOURCE_DATE_EPOCH in seconds: nothing in the image is later. Nil means the date of the suite's release file.
	Epoch *int64 `json:"epoch,omitempty"`
	// List only says which packages there would be.
	List bool `json:"list,omitempty"`
}

// Stages, in their order.
const (
	StageLists     = "lists"
	StageFetch     = "fetch"
	StageUnpack    = "unpack"
	StageConfigure = "configure"
	StagePack      = "pack"
)

// Message is one line of the answer.
type Message struct {
	Progress *Progress `json:"progress,omitempty"`
	// Note is something that a person should know.
	Note    string   `json:"note,omitempty"`
	Result  *Result  `json:"result,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// Progress is how far a stage has come: in things (lists, packages), and in bytes where there are any.
type Progress struct {
	Stage string `json:"stage"`
	// Name is what was done last.
	Name       string `json:"name,omitempty"`
	Done       int    `json:"done"`
	Total      int    `json:"total,omitempty"`
	Bytes      int64  `json:"bytes,omitempty"`
	TotalBytes int64  `json:"totalBytes,omitempty"`
}

// Result is the image that was made, or with Request.List the packages that it would have.
type Result struct {
	ID     string `json:"id,omitempty"`
	Digest string `json:"digest,omitempty"`
	Name   string `json:"name,omitempty"`
	// Suite and Date are the release file's, Signer who signed it.
	Suite  string `json:"suite,omitempty"`
	Date   string `json:"date,omitempty"`
	Signer string `json:"signer,omitempty"`
	// Packages are sorted by name.
	Packages []Package `json:"packages,omitempty"`
	// Fetched is bytes of packages, Size bytes on disk.
	Fetched int64 `json:"fetched,omitempty"`
	Size    int64 `json:"size,omitempty"`
	// Milliseconds by stage, and of the whole under "".
	Milliseconds map[string]int64 `json:"milliseconds,omitempty"`
}

// Package is a package of the image.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Size    int64  `json:"size,omitempty"`
}

// Failure is why there is no image.
type Failure struct {
	fault.Parts
	// Tail is the end of what the packages' scripts printed.
	Tail string `json:"tail,omitempty"`
}
