package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// maxContext bounds an exported context, as docker does.
const maxContext = 10 << 20

func (a *app) contextExportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export CONTEXT [FILE|-]", Args: between(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			file := args[0] + ".dockercontext"
			if len(args) == 2 {
				file = args[1]
			}
			archive, err := a.contexts().pack(args[0])
			if err != nil {
				return err
			}
			if file == "-" {
				if _, ok := terminalFD(a.out); ok {
					return errors.New("cowardly refusing to export to a terminal, specify a file path")
				}
				_, err := a.out.Write(archive)
				return err
			}
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("export the context: %w", err)
			}
			_, err = f.Write(archive)
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("export the context: %w", err)
			}
			a.note(fmt.Sprintf("Written file %q", file))
			return nil
		},
	}
}

// pack makes docker's archive of a context: meta.json, and tls/docker/*.pem.
func (s contextStore) pack(name string) ([]byte, error) {
	c, err := s.read(name)
	if err != nil {
		return nil, err
	}
	meta, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode the context: %w", err)
	}
	files, err := readAll(s.material(name))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, content []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	err = add("meta.json", meta)
	for _, n := range sortedKeys(files) {
		err = errors.Join(err, add("tls/"+dockerEndpoint+"/"+n, files[n]))
	}
	return b.Bytes(), errors.Join(err, w.Close())
}

func (a *app) contextImportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import CONTEXT FILE|-", Args: exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkContextName(args[0]); err != nil {
				return err
			}
			store := a.contexts()
			if _, err := os.Stat(store.metaDir(args[0])); err == nil {
				return fmt.Errorf("context %q already exists", args[0])
			}
			src, err := a.source(args[1])
			if err != nil {
				return err
			}
			defer src.Close()
			c, files, err := unpackContext(src)
			if err != nil {
				return fmt.Errorf("import the context: %w", err)
			}
			c.Name = args[0]
			e, err := c.endpoint()
			if err != nil {
				return err
			}
			if err := a.saveContext(c, e, files); err != nil {
				return err
			}
			a.note(fmt.Sprintf("Successfully imported context %q", args[0]))
			return nil
		},
	}
}

// unpackContext reads an archive of docker's or of kist's.
func unpackContext(src io.Reader) (*savedContext, map[string][]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(src, maxContext+1))
	if err != nil {
		return nil, nil, err
	}
	switch {
	case len(raw) > maxContext:
		return nil, nil, fmt.Errorf("the archive is larger than %d MB", maxContext>>20)
	case bytes.HasPrefix(raw, []byte("PK\x03\x04")):
		return nil, nil, &hintedError{err: errors.New("zip archives are not read"), try: "unpack it, and import a tar archive of the files"}
	}
	var c *savedContext
	files := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, nil, err
		}
		switch name := path.Clean(h.Name); {
		case name == "meta.json":
			c = new(savedContext)
			if err := json.Unmarshal(content, c); err != nil {
				return nil, nil, fmt.Errorf("meta.json: %w", err)
			}
		case strings.HasPrefix(name, "tls/"+dockerEndpoint+"/") && slices.Contains(tlsNames, path.Base(name)):
			files[path.Base(name)] = content
		default:
			return nil, nil, fmt.Errorf("unexpected file %q in it", h.Name)
		}
	}
	if c == nil {
		return nil, nil, errors.New("it has no meta.json")
	}
	return c, files, nil
}
