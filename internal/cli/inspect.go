package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/template"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/kistdev/kist/internal/client"
)

// object is something inspected: its JSON and how a template sees it.
type object struct {
	raw  []byte
	kind string
}

// inspectKinds are the kinds in the order in which a bare name is looked for.
var inspectKinds = []string{"container", "image", "network", "volume"}

func (a *app) inspectCommand() *cobra.Command {
	var (
		format, kind string
		size         bool
	)
	c := &cobra.Command{Use: "inspect [OPTIONS] NAME|ID...", Args: atLeast(1)}
	c.Flags().StringVarP(&format, "format", "f", "", "How to print: json, or a Go template")
	c.Flags().BoolVarP(&size, "size", "s", false, "Also what a container's files take")
	c.Flags().StringVar(&kind, "type", "", "Look only for this kind: container, image, network, volume")
	c.RunE = func(_ *cobra.Command, args []string) error {
		kinds := inspectKinds
		if kind != "" {
			if !slices.Contains(inspectKinds, kind) {
				return fmt.Errorf("%q is not a valid value for --type: must be %s", kind, strings.Join(inspectKinds, ", "))
			}
			kinds = []string{kind}
		}
		return a.inspect(kinds, args, format, size)
	}
	return c
}

// inspectKind makes the inspect command of one kind.
func (a *app) inspectKind(kind string) func() *cobra.Command {
	return func() *cobra.Command {
		var (
			format, platform string
			flag             bool
		)
		c := &cobra.Command{Use: "inspect [OPTIONS] NAME|ID...", Args: atLeast(1)}
		c.Flags().StringVarP(&format, "format", "f", "", "How to print: json, or a Go template")
		switch kind {
		case "container":
			c.Flags().BoolVarP(&flag, "size", "s", false, "Also what its files take")
		case "network":
			c.Flags().BoolVarP(&flag, "verbose", "v", false, "Also what helps to find a fault")
		case "image":
			c.Flags().StringVar(&platform, "platform", "", "Platform of the image: os/architecture")
		}
		c.RunE = func(_ *cobra.Command, args []string) error {
			if platform != "" {
				return a.inspectPlatform(args, format, platform)
			}
			return a.inspect([]string{kind}, args, format, flag)
		}
		return c
	}
}

func (a *app) inspectPlatform(names []string, format, platform string) error {
	q := url.Values{}
	if err := addPlatform(q, "platform", platform); err != nil {
		return err
	}
	return a.inspectAll(names, format, func(cl *client.Client, name string) (*object, error) {
		raw, err := rawAnswer(cl, client.Get(imagePath(name, "/json"), q))
		return &object{raw, "image"}, err
	})
}

func (a *app) inspect(kinds, names []string, format string, flag bool) error {
	return a.inspectAll(names, format, func(cl *client.Client, name string) (*object, error) {
		return a.lookUp(cl, kinds, name, flag)
	})
}

// inspectAll prints what is found, and then fails if something was not.
func (a *app) inspectAll(names []string, format string, look func(cl *client.Client, name string) (*object, error)) error {
	var t *template.Template
	if format != "" && format != "json" {
		var err error
		if t, err = parseTemplate(format); err != nil {
			return err
		}
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	var found []*object
	var failures []error
	for _, name := range names {
		o, err := look(cl, name)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		found = append(found, o)
	}
	if err := a.printObjects(found, t, format); err != nil {
		failures = append(failures, err)
	}
	return a.complainAll(failures)
}

// lookUp finds the first kind that has an object of the name.
func (a *app) lookUp(cl *client.Client, kinds []string, name string, flag bool) (*object, error) {
	for _, kind := range kinds {
		raw, err := rawAnswer(cl, client.Get(objectPath(kind, name), objectQuery(kind, flag)))
		if err == nil {
			return &object{raw, kind}, nil
		}
		last := kind == kinds[len(kinds)-1]
		// A name that one kind cannot have may be another's.
		if !last && (errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrInvalidArgument)) {
			continue
		}
		if len(kinds) == 1 {
			switch kind {
			case "container":
				return nil, a.hintContainer(cl, name, err)
			case "image":
				return nil, a.hintImage(cl, name, err)
			}
			return nil, err
		}
		if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrInvalidArgument) {
			err = a.hintContainer(cl, name, fmt.Errorf("no such object: %s%w", name, quiet{errdefs.ErrNotFound}))
			if hinted := (*hintedError)(nil); !errors.As(err, &hinted) {
				err = &hintedError{err: err, try: "kist ps -a, kist images, kist network ls, kist volume ls", code: "not-found"}
			}
		}
		return nil, err
	}
	return nil, fmt.Errorf("no such object: %s", name)
}

// quiet is an error's class without its text.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

func objectPath(kind, name string) string {
	switch kind {
	case "container":
		return containerPath(name, "/json")
	case "image":
		return imagePath(name, "/json")
	case "network":
		return networkPath(name)
	}
	return volumePath(name)
}

func objectQuery(kind string, flag bool) url.Values {
	switch {
	case flag && kind == "container":
		return url.Values{"size": {"1"}}
	case flag && kind == "network":
		return url.Values{"verbose": {"true"}}
	}
	return nil
}

func rawAnswer(cl *client.Client, r *client.Request) ([]byte, error) {
	resp, err := cl.Do(r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	return b, errors.Join(err, resp.Body.Close())
}

// printObjects prints a JSON array, or each object by the template.
func (a *app) printObjects(found []*object, t *template.Template, format string) error {
	var b bytes.Buffer
	if t != nil {
		for _, o := range found {
			if err := o.execute(t, &b); err != nil {
				return templateError(err)
			}
			b.WriteByte('\n')
		}
		_, err := b.WriteTo(a.out)
		return err
	}
	var list bytes.Buffer
	list.WriteByte('[')
	for i, o := range found {
		if i > 0 {
			list.WriteByte(',')
		}
		// As it came: Marshal would escape what need not be.
		if err := json.Compact(&list, o.raw); err != nil {
			return fmt.Errorf("decode the daemon's answer: %w", err)
		}
	}
	list.WriteByte(']')
	all := list.Bytes()
	if format == "json" {
		return a.printLine(string(all))
	}
	if err := json.Indent(&b, all, "", "    "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(a.out)
	return err
}

// execute fills the template in with the typed object, whose names are Go's, or else with the JSON, whose names are the
// API's.
func (o *object) execute(t *template.Template, b *bytes.Buffer) error {
	start := b.Len()
	typed, err := o.typed(t, b)
	if err == nil && typed {
		return nil
	}
	b.Truncate(start)
	var v any
	d := json.NewDecoder(bytes.NewReader(o.raw))
	d.UseNumber()
	if derr := d.Decode(&v); derr != nil {
		return derr
	}
	if o.kind == "container" {
		addFormerAddresses(v)
	}
	plain, cerr := t.Clone()
	if cerr != nil {
		return cerr
	}
	if rerr := plain.Option("missingkey=error").Execute(b, v); rerr != nil {
		return errors.Join(rerr)
	}
	return nil
}

// addFormerAddresses gives a container's JSON the default network's addresses where they were until API 1.51, and where
// half of the world's scripts still look for them: {{.NetworkSettings.IPAddress}}.
func addFormerAddresses(v any) {
	whole, _ := v.(map[string]any)
	settings, _ := whole["NetworkSettings"].(map[string]any)
	if settings == nil {
		return
	}
	networks, _ := settings["Networks"].(map[string]any)
	bridge, _ := networks[network.NetworkBridge].(map[string]any)
	for _, key := range []string{"EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPPrefixLen", "IPv6Gateway", "MacAddress"} {
		if _, there := settings[key]; there {
			continue
		}
		if settings[key] = bridge[key]; settings[key] == nil {
			settings[key] = ""
		}
	}
}

func (o *object) typed(t *template.Template, b *bytes.Buffer) (bool, error) {
	switch o.kind {
	case "container":
		return fill[inspected](t, b, o.raw)
	case "image":
		return fill[image.InspectResponse](t, b, o.raw)
	case "network":
		return fill[network.Inspect](t, b, o.raw)
	case "volume":
		return fill[volume.Volume](t, b, o.raw)
	}
	return false, nil
}

// inspected is docker's container with what kist's daemon adds.
type inspected struct {
	container.InspectResponse
	State *struct {
		*container.State
		KistExit *exitView `json:",omitempty"`
	}
}

// exitView is why a container ended.
type exitView struct {
	Reason, Text              string
	Brief, Signal, By, Caller string `json:",omitempty"`
	MemoryLimit, MemoryPeak   uint64 `json:",omitempty"`
}

func fill[T any](t *template.Template, b *bytes.Buffer, raw []byte) (bool, error) {
	var v T
	// The API may be newer or older than the type.
	fits := json.Unmarshal(raw, &v) == nil
	if !fits {
		return false, nil
	}
	return true, t.Execute(b, v)
}
