package serve

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// index answers with an index that is no manifest of the registry.
func (c *call) index(index ocispec.Index) error {
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	return c.bytes(http.StatusOK, raw)
}

func (c *call) catalog() error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return c.method("GET, HEAD")
	}
	list, err := c.page(c.s.shelf.Repositories())
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, struct {
		Repositories []string `json:"repositories"`
	}{list})
}

func (c *call) tags() error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return c.method("GET, HEAD")
	}
	tags, err := c.s.shelf.Tags(c.repo)
	if err != nil {
		return c.nameError(err)
	}
	if tags, err = c.page(tags); err != nil {
		return err
	}
	return c.json(http.StatusOK, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{c.repo, tags})
}

// page cuts a sorted list to what was asked for, and says where the rest is.
func (c *call) page(list []string) ([]string, error) {
	q := c.r.URL.Query()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(list, last)
		if found {
			i++
		}
		list = list[i:]
	}
	if q.Has("n") {
		n, err := strconv.Atoi(q.Get("n"))
		if err != nil || n < 0 {
			return nil, &refusal{status: http.StatusBadRequest, code: "PAGINATION_NUMBER_INVALID", message: "n is not a number", err: err}
		}
		if n < len(list) {
			list = list[:n]
			if n > 0 {
				next := url.Values{"n": {strconv.Itoa(n)}, "last": {list[n-1]}}
				c.w.Header().Set("Link", "<"+c.r.URL.EscapedPath()+"?"+next.Encode()+`>; rel="next"`)
			}
		}
	}
	if list == nil {
		list = []string{}
	}
	return list, nil
}
