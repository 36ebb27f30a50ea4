package compose

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/compose/model"
)

// filters makes the query of a list.
func filters(f map[string][]string) (url.Values, error) {
	raw, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return url.Values{"filters": {string(raw)}}, nil
}

// ofProject filters by the project's label.
func (s *stack) ofProject() (url.Values, error) {
	return filters(map[string][]string{"label": {model.LabelProject + "=" + s.name}})
}

// path is the address of a part of a container.
func path(id, part string) string { return "/containers/" + url.PathEscape(id) + part }

func (s *stack) inspect(id string) (*container.InspectResponse, error) {
	return client.CallJSON[container.InspectResponse](s.cl, client.Get(path(id, "/json"), nil))
}

func (s *stack) startContainer(id string) error {
	return s.cl.Call(client.Post(path(id, "/start"), nil))
}

// stopContainer ends a container; patience is its own if nil.
func (s *stack) stopContainer(id string, patience *int) error {
	q := url.Values{}
	if patience != nil {
		q.Set("t", strconv.Itoa(*patience))
	}
	return s.cl.Call(client.Post(path(id, "/stop"), q))
}

// removeContainer removes a container; with volumes also those of it that have no name.
func (s *stack) removeContainer(id string, force, volumes bool) error {
	q := url.Values{}
	if force {
		q.Set("force", "1")
	}
	if volumes {
		q.Set("v", "1")
	}
	return s.cl.Call(client.Delete(path(id, ""), q))
}

func (s *stack) rename(id, name string) error {
	return s.cl.Call(client.Post(path(id, "/rename"), url.Values{"name": {name}}))
}

func (s *stack) networks() ([]network.Summary, error) {
	q, err := s.ofProject()
	if err != nil {
		return nil, err
	}
	return list[network.Summary](s.cl, "/networks", q)
}

func (s *stack) volumes() ([]volume.Volume, error) {
	q, err := s.ofProject()
	if err != nil {
		return nil, err
	}
	r, err := client.CallJSON[volume.ListResponse](s.cl, client.Get("/volumes", q))
	if err != nil {
		return nil, err
	}
	return r.Volumes, nil
}

func list[T any](cl *client.Client, path string, q url.Values) ([]T, error) {
	r, err := client.CallJSON[[]T](cl, client.Get(path, q))
	if err != nil {
		return nil, err
	}
	return *r, nil
}

func (s *stack) image(name string) (*image.InspectResponse, error) {
	q := url.Values{}
	if minor(s.cl.APIVersion()) >= oldestManifests {
		q.Set("manifests", "1")
	}
	return client.CallJSON[image.InspectResponse](s.cl, client.Get("/images/"+url.PathEscape(name)+"/json", q))
}

// oldestManifests is the API that tells an image's manifests.
const oldestManifests = 48

// stamp is a time as the API takes it.
func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
