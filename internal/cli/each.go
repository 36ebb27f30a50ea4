package cli

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/typo"
)

// atOnce bounds how many objects of one command are worked on at the same time.
const atOnce = 16

// each does something with every named object, several at once, prints each result in order and each failure as it is,
// and fails if one did.
func (a *app) each(names []string, do func(cl *client.Client, name string) (string, error)) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return nil
	}
	m := a.measure("Waiting for "+names[0], 0)
	defer m.end("", nil)
	type result struct {
		line string
		err  error
	}
	results := make([]chan result, len(names))
	slots := make(chan struct{}, atOnce)
	for i, n := range names {
		results[i] = make(chan result, 1)
		work := func() {
			line, err := do(cl, n)
			results[i] <- result{line, err}
		}
		if len(names) == 1 {
			work()
			break
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			work()
		}()
	}
	failed := false
	for i, ch := range results {
		m.rename("Waiting for " + names[i])
		r := <-ch
		m.clear()
		if r.err != nil {
			failed = true
			a.complain(r.err)
			continue
		}
		if r.line != "" {
			if err := a.printLine(r.line); err != nil {
				return err
			}
		}
	}
	if failed {
		return silent(exitFailure)
	}
	return nil
}

// eachContainer is each for containers; an unknown one is answered with the nearest name.
func (a *app) eachContainer(names []string, do func(cl *client.Client, name string) error) error {
	return a.each(names, func(cl *client.Client, name string) (string, error) {
		if err := do(cl, name); err != nil {
			return "", a.hintContainer(cl, name, err)
		}
		return name, nil
	})
}

// hintContainer adds the nearest container's name to a not found error that tries nothing yet.
func (a *app) hintContainer(cl *client.Client, name string, err error) error {
	if !hintable(err) {
		return err
	}
	list, lerr := client.CallJSON[[]container.Summary](cl, client.Get("/containers/json", url.Values{"all": {"1"}}))
	if lerr != nil {
		return err
	}
	var names []string
	for _, c := range *list {
		for _, n := range c.Names {
			names = append(names, strings.TrimPrefix(n, "/"))
		}
	}
	return hint(name, names, err)
}

// hintImage is hintContainer for images.
func (a *app) hintImage(cl *client.Client, name string, err error) error {
	if !hintable(err) {
		return err
	}
	list, lerr := client.CallJSON[[]image.Summary](cl, client.Get("/images/json", nil))
	if lerr != nil {
		return err
	}
	var names []string
	for _, i := range *list {
		for _, t := range i.RepoTags {
			names = append(names, t, strings.TrimSuffix(t, ":latest"))
		}
	}
	return hint(name, names, err)
}

func hintable(err error) bool {
	if err == nil {
		return false
	}
	return parts(err).try == "" && errors.Is(err, errdefs.ErrNotFound)
}

func hint(name string, names []string, err error) error {
	if slices.Contains(names, name) {
		return err
	}
	if near := typo.Nearest(name, names); near != "" {
		return &hintedError{err: err, try: "did you mean " + near + "?"}
	}
	return err
}

// containerPath is the address of a container's part.
func containerPath(name, part string) string {
	return "/containers/" + url.PathEscape(name) + part
}
