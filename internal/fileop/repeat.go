package fileop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/kistdev/kist/internal/layer"
	"github.com/kistdev/kist/internal/treesum"
)

// A copy of a large directory of the client is worth remembering: the next one of which little has changed copies only that, into a
// layer that lies over the remembered one.
const (
	// repeatBytes and repeatFiles are what makes it large: either will do.
	repeatBytes = 16 << 20
	repeatFiles = 2000
	// repeatShare is the part of it that may change.
	repeatShare = 4
)

// repeatKey names a copy whose result depends on nothing but this and the files; empty if it is not of the kind that is remembered.
func (r *run) repeatKey() string {
	if len(r.op.Actions) != 1 {
		return ""
	}
	a := r.op.Actions[0]
	from := int(a.SecondaryInput)
	if a.GetCopy() == nil || from < 0 || from >= len(r.inputs) || a.Output != 0 {
		return ""
	}
	l := r.inputs[from].Local
	if l == nil || l.Key == "" {
		return ""
	}
	var base []digest.Digest
	if in := int(a.Input); in >= 0 {
		if in >= len(r.inputs) || r.inputs[in].Local != nil {
			return ""
		}
		base = r.inputs[in].Layers
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.op)
	if err != nil {
		return ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n%s\n%s\n", len(raw), raw, l.Dir, l.Key) // A hash does not fail.
	for _, d := range base {
		fmt.Fprintln(h, d)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// repeat runs a copy that was run before. It returns nil if that is no use: then the copy is to be made as a whole.
func (r *run) repeat(ctx context.Context) (_ *Output, err error) {
	past := r.o.trees.Past(r.key)
	if past == nil {
		return nil, nil //nolint:nilnil // see above
	}
	under := digest.Digest(past.ID)
	if !r.hold.Take(under) || !r.o.layers.MayUnder(under) {
		return nil, nil //nolint:nilnil // it was collected
	}
	a := r.op.Actions[0]
	c := a.GetCopy()
	v, err := r.o.look(ctx, r.inputs[a.SecondaryInput])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	sel, err := v.tree.Select(ctx, copySelection(c, true))
	if err != nil || !oneDirectory(sel) {
		return nil, err
	}
	changes := past.Changes(sel)
	if changes == nil || changes.Files > past.Files/repeatShare || changes.Bytes > past.Bytes/repeatShare {
		return nil, nil //nolint:nilnil // see above
	}
	below, err := r.output(ctx, int(a.Input))
	if err != nil {
		return nil, err
	}
	made := layer.Committed{DiffID: under}
	if changes.Files > 0 {
		made, err = r.copyOver(ctx, below.Layers, sel, changes, under)
		if errdefs.IsFailedPrecondition(err) {
			return nil, nil //nolint:nilnil // it is more than an addition
		}
	} else {
		made.Size, err = r.o.layers.Size(under)
	}
	if err != nil {
		return nil, err
	}
	return &Output{Layers: append(slices.Clone(below.Layers), made.DiffID), Added: []layer.Committed{made}}, nil
}

func oneDirectory(sel *treesum.Selected) bool {
	return len(sel.Matches) == 1 && sel.Matches[0].Node.IsDir()
}

// copyOver copies what has changed into a layer over the one that has the rest.
func (r *run) copyOver(ctx context.Context, layers []digest.Digest, sel *treesum.Selected, changes *treesum.Changes, under digest.Digest) (layer.Committed, error) {
	a := r.op.Actions[0]
	who, err := r.owner(ctx, ownerOf(a))
	if err != nil {
		return layer.Committed{}, err
	}
	d, err := r.o.newDest(ctx, layers)
	if err != nil {
		return layer.Committed{}, err
	}
	d.under = under
	if last := r.o.lastOf(r.key); last != "" && r.hold.Take(last) {
		d.like = last
	}
	cp, err := newCopier(d, sel, a.GetCopy(), who, true)
	if err == nil {
		cp.changes = changes
		err = cp.match(ctx, sel.Matches[0])
	}
	if err == nil {
		err = d.sameTimes(a.GetCopy().Dest)
	}
	if err != nil {
		return layer.Committed{}, errors.Join(err, d.drop(context.WithoutCancel(ctx)))
	}
	r.unstable = r.unstable || cp.unstable.Load()
	made, err := d.commit(ctx, r.hold)
	if err == nil {
		r.o.setLast(r.key, made.DiffID)
	}
	return made, err
}

// keptLast is how many copies' last versions are known.
const keptLast = 256

func (o *Ops) lastOf(key string) digest.Digest {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last[key]
}

func (o *Ops) setLast(key string, id digest.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.last) >= keptLast {
		clear(o.last)
	}
	o.last[key] = id
}

// sameTimes gives the directories on the way to the destination the times that they have in the layer below: nothing has changed
// in them.
func (d *dest) sameTimes(dst string) error {
	old, err := d.layers.OpenStack([]digest.Digest{d.under})
	if err != nil {
		return err
	}
	defer old.Close()
	parts, err := d.resolve(dst)
	if err != nil {
		return err
	}
	for i := 1; i < len(parts); i++ {
		name := strings.Join(parts[:i], "/")
		was, err := old.Lstat(name)
		if errors.Is(err, unix.ENOENT) || err == nil && was.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil
		}
		if err != nil {
			return err
		}
		if err := setTimes(d.upper.Fd(), name, was.Atim, was.Mtim); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("set the time of /%s: %w", name, err)
		}
	}
	return nil
}

// remember keeps what was copied for repeat, if it is worth it.
func (r *run) remember(out Output) {
	if r.key == "" || r.unstable || r.copied == nil || !oneDirectory(r.copied) || len(out.Added) != 1 {
		return
	}
	made := out.Added[0].DiffID
	size, err := r.o.layers.TarSize(made)
	if err != nil || !r.o.layers.MayUnder(made) {
		return
	}
	p := r.copied.Past(made.String())
	if p == nil || size < repeatBytes && p.Files < repeatFiles {
		return
	}
	_ = r.o.trees.Keep(r.key, p) // Without it, the next copy is a whole one.
}
