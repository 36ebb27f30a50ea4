package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/kistdev/kist/internal/buildmsg"
)

// findOutputs reads --output, --push and --load.
func (b *buildRun) findOutputs() error {
	f := b.flags
	for _, s := range f.outputs.values {
		o, err := b.output(s)
		if err != nil {
			return fmt.Errorf("--output %s: %w", s, err)
		}
		if o != nil {
			b.req.Outputs = append(b.req.Outputs, *o)
		}
	}
	if b.call.method != "" {
		b.req.Outputs = nil
		return nil
	}
	image := -1
	for i, o := range b.req.Outputs {
		if o.Type == "image" {
			image = i
		}
	}
	if image < 0 && (len(f.outputs.values) == 0 || f.load || f.push) {
		b.req.Outputs = append(b.req.Outputs, buildmsg.Output{Type: "image", Attrs: map[string]string{}})
		image = len(b.req.Outputs) - 1
	}
	if !f.push {
		return nil
	}
	if len(b.req.Tags) == 0 && b.req.Outputs[image].Attrs["name"] == "" {
		return &hintedError{err: errors.New("--push needs a name to send the image to"), try: "-t REGISTRY/NAME"}
	}
	b.req.Outputs[image].Attrs["push"] = "true"
	return nil
}

// output reads one --output; nil is one that makes nothing.
func (b *buildRun) output(s string) (*buildmsg.Output, error) {
	m, err := fields(s)
	if err != nil {
		return nil, err
	}
	if path, plain := m[""]; plain && len(m) == 1 {
		m = map[string]string{"type": "local", "dest": path}
		if path == "-" {
			m["type"] = "tar"
		}
	}
	o := &buildmsg.Output{Type: m["type"], Attrs: m}
	dest := m["dest"]
	delete(m, "type")
	delete(m, "dest")
	switch o.Type {
	case "cacheonly":
		return nil, nil
	case "registry":
		o.Type, m["push"] = "image", "true"
	case "image":
	case "docker":
		if dest == "" { // As with docker, the daemon's own store.
			o.Type = "image"
			return o, nil
		}
	case "local", "tar", "oci":
		if dest == "" {
			if o.Type == "local" {
				return nil, errors.New("the destination is missing: dest=PATH")
			}
			dest = "-"
		}
	case "":
		return nil, errors.New("the type is missing: type=local|tar|oci|docker|image")
	default:
		return nil, fmt.Errorf("unknown type %q: use local, tar, oci, docker, image or registry", o.Type)
	}
	if dest != "" {
		return o, b.destination(o, dest)
	}
	return o, nil
}

// destination says where a file or a directory goes.
func (b *buildRun) destination(o *buildmsg.Output, dest string) error {
	i := len(b.req.Outputs)
	if dest == "-" {
		if o.Type == "local" {
			return errors.New("a directory cannot be written to standard output: use type=tar")
		}
		if _, ok := terminalFD(b.app.out); ok {
			return &hintedError{err: errors.New("an archive is not written to a terminal"), try: "dest=FILE, or redirect the output"}
		}
		o.ToClient = true
		b.outputs[i] = dest
		return nil
	}
	abs, err := filepath.Abs(dest)
	if err != nil {
		return err
	}
	b.outputs[i] = abs
	if asTar, err := strconv.ParseBool(o.Attrs["tar"]); o.Type == "oci" && err == nil && !asTar {
		delete(o.Attrs, "tar") // The daemon sends an archive in any case; it is unpacked here.
		if b.layouts == nil {
			b.layouts = map[int]bool{}
		}
		b.layouts[i], o.ToClient = true, true
		return nil
	}
	if b.here() {
		o.Path = abs
		return nil
	}
	o.ToClient = true
	return nil
}

// metadataProvenance is how much of the provenance --metadata-file gets, by the variable that buildx has for it.
func metadataProvenance(wish string) string {
	if wish == "max" {
		return wish
	}
	if on, err := strconv.ParseBool(wish); wish == "disabled" || err == nil && !on {
		return ""
	}
	return "min"
}

// metadataJSON is what docker writes to --metadata-file: values that hold JSON are written as JSON.
func metadataJSON(r *buildmsg.Result) ([]byte, error) {
	out := map[string]any{"buildx.build.ref": r.Ref}
	for k, v := range r.Exporter {
		out[k] = v
		raw, err := base64.StdEncoding.DecodeString(v)
		if err != nil || len(raw) == 0 {
			continue
		}
		var object map[string]any
		if json.Unmarshal(raw, &object) == nil && len(object) > 0 {
			out[k] = json.RawMessage(raw)
		}
	}
	return json.MarshalIndent(out, "", "  ")
}
