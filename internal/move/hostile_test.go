package move

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/kistdev/kist/internal/testbed"
)

// TestHostileSender says wrong things to a receiver.
func TestHostileSender(t *testing.T) {
	hi := `{"hello":{"protocol":1,"store":"x"}}`
	layer := func(s string) string {
		return `{"image":{"Layers":[` + s + `],"Config":"e30=","Manifest":"e30=","ManifestType":"x"}}`
	}
	d := digest.FromString("x").String()
	for name, frames := range map[string][]frame{
		"nothing":            nil,
		"no greeting":        {{kind: kindEnd}},
		"no JSON":            {{kind: kindMessage, data: []byte("{")}},
		"newer":              {{kind: kindMessage, data: []byte(`{"hello":{"protocol":99}}`)}},
		"unknown":            {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte("{}")}},
		"bad digest":         {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(layer(`{"diffID":"../../etc","blob":{"digest":"` + d + `"}}`))}},
		"negative size":      {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(layer(`{"diffID":"` + d + `","blob":{"digest":"` + d + `","size":-5}}`))}},
		"too large":          {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(layer(`{"diffID":"` + d + `","blob":{"digest":"` + d + `","size":900000000000000000}}`))}},
		"no image":           {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(layer(""))}, {kind: kindMessage, data: []byte(`{"publish":true}`)}},
		"a volume's name":    {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(`{"volume":{"Name":"../x"}}`)}},
		"an empty container": {{kind: kindMessage, data: []byte(hi)}, {kind: kindMessage, data: []byte(`{"container":{"Check":true}}`)}},
		"a wrong tar": {
			{kind: kindMessage, data: []byte(hi)},
			{kind: kindMessage, data: []byte(layer(`{"diffID":"` + d + `","blob":{"digest":"` + d + `","size":5},"made":true,"plain":true}`))},
			{kind: kindMessage, data: []byte(`{"tar":{"size":5}}`)},
			{kind: kindOps, data: []byte("\x01\x03abc")},
			{kind: kindEnd},
		},
		"a recipe inline": {
			{kind: kindMessage, data: []byte(hi)},
			{kind: kindMessage, data: []byte(`{"volume":{"Name":"data"}}`)},
			{kind: kindMessage, data: []byte(`{"tar":{"size":5}}`)},
			{kind: kindOps, data: append([]byte("\x02\x03"), make([]byte, 32)...)},
			{kind: kindEnd},
		},
		"no zstd": {
			{kind: kindMessage, data: []byte(hi)},
			{kind: kindMessage, data: []byte(`{"volume":{"Name":"data"}}`)},
			{kind: kindMessage, data: []byte(`{"tar":{"size":5}}`)},
			{kind: kindPacked, data: []byte("nonsense")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMover(t)
			near, far := testbed.SocketPair(t)
			done := make(chan error, 1)
			go func() {
				done <- m.Receive(context.Background(), far)
				far.Close()
			}()
			w, err := newWire(near, true)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			go func() { _, _ = io.Copy(io.Discard, near) }()
			for _, f := range frames {
				_ = w.write(f.kind, f.data)
			}
			_ = w.flush()
			near.(*net.UnixConn).CloseWrite()
			if err := <-done; err == nil {
				t.Error("nothing was wrong")
			}
			near.Close()
			list, err := m.Images.List(t.Context(), true, false, nil)
			if err != nil || len(list) > 0 || len(m.Layers.All()) > 0 {
				t.Errorf("%v, %v, %v", list, m.Layers.All(), err)
			}
			if vs, _, _ := m.Volumes.List(t.Context(), nil); len(vs) > 0 {
				t.Errorf("%v", vs)
			}
		})
	}
}

func FuzzReceive(f *testing.F) {
	raw, err := json.Marshal(&message{Hello: &hello{Protocol: 1, Store: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	w, err := newWire(&b, true)
	if err != nil {
		f.Fatal(err)
	}
	_ = w.write(kindMessage, raw)
	_ = w.write(kindMessage, []byte(`{"volume":{"Name":"data"}}`))
	_ = w.write(kindMessage, []byte(`{"tar":{"size":5}}`))
	_ = w.flush()
	w.close()
	f.Add(b.Bytes())
	m := newMover(f)
	f.Fuzz(func(_ *testing.T, in []byte) {
		_ = m.Receive(context.Background(), struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(in), io.Discard})
	})
}
