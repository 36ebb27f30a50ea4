package image

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"

	"github.com/kistdev/kist/internal/filter"
)

func deleted(list []image.DeleteResponse) (untagged, removed []string) {
	for _, r := range list {
		if r.Untagged != "" {
			untagged = append(untagged, r.Untagged)
		} else {
			removed = append(removed, r.Deleted)
		}
	}
	return untagged, removed
}

func TestRemoveNames(t *testing.T) {
	f := newFixture(t)
	img := f.commit(t, "app:1", "", nil, map[string]string{"a": "a"})
	if err := f.Tag(ctx, "app:1", "app:2"); err != nil {
		t.Fatal(err)
	}
	f.used[img.ID] = []string{"0123456789abcdef"}
	list, err := f.Remove(ctx, "app:1", false, false)
	untagged, removed := deleted(list)
	if err != nil || !slices.Equal(untagged, []string{"app:1"}) || removed != nil {
		t.Errorf("one of two names: %v %v", list, err)
	}
	_, err = f.Remove(ctx, "app:2", false, false)
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), `conflict: unable to remove repository reference "app:2" (must force) - container 0123456789ab is using`) {
		t.Errorf("the last name of a used image: %v", err)
	}
	if _, err = f.Remove(ctx, img.ID.Encoded()[:8], false, false); !errdefs.IsConflict(err) {
		t.Errorf("a used image by id: %v", err)
	}
	if list, err = f.Remove(ctx, "app:2", true, false); err != nil || len(list) != 1 {
		t.Errorf("forced: %v %v", list, err)
	}
	if got, err := f.Get(ctx, img.ID.String()); err != nil || len(got.Names) != 0 || !f.layers.Has(img.Layers[0]) {
		t.Errorf("a used image is gone: %v", err)
	}
	delete(f.used, img.ID)
	list, err = f.Remove(ctx, img.ID.String(), false, false)
	if _, removed = deleted(list); err != nil || !slices.Equal(removed, []string{img.ID.String()}) {
		t.Errorf("an unused one: %v %v", list, err)
	}
	if f.layers.Has(img.Layers[0]) || blobCount(t, f) != 0 {
		t.Errorf("blobs or layers are left: %d", blobCount(t, f))
	}
}

// TestRemoveTakesDigestsAlong removes the tags of an image that two repositories of a registry know by its digest.
func TestRemoveTakesDigestsAlong(t *testing.T) {
	srv, f := newServer(t), newFixture(t)
	ti := standardImage(t)
	srv.put(t, "one:1", ti)
	srv.put(t, "two:1", ti)
	f.pull(t, srv.host+"/one:1")
	f.pull(t, srv.host+"/two:1")
	for i, name := range []string{"/one:1", "/two:1"} {
		list, err := f.Remove(ctx, srv.host+name, false, false)
		untagged, removed := deleted(list)
		if err != nil || len(untagged) != 2 || len(removed) != i {
			t.Errorf("%s: %v %v", name, list, err)
		}
	}
	if n := blobCount(t, f); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestRemoveByID(t *testing.T) {
	f := newFixture(t)
	img := f.commit(t, "one:1", "", nil, map[string]string{"a": "a"})
	if err := f.Tag(ctx, "one:1", "two:1"); err != nil {
		t.Fatal(err)
	}
	_, err := f.Remove(ctx, img.ID.String(), false, false)
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "image is referenced in multiple repositories") {
		t.Errorf("got %v", err)
	}
	child := f.commit(t, "child:1", img.ID, nil, map[string]string{"b": "b"})
	if _, err := f.Remove(ctx, img.ID.String(), true, false); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "dependent child images") {
		t.Errorf("with a child: %v", err)
	}
	for _, name := range []string{"one:1", "two:1"} {
		if _, err := f.Remove(ctx, name, false, false); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := f.List(ctx, false, false, nil); err != nil || len(list) != 1 {
		t.Errorf("the nameless parent is listed: %v %v", list, err)
	}
	if list, err := f.List(ctx, true, false, nil); err != nil || len(list) != 2 {
		t.Errorf("the parent is gone: %v %v", list, err)
	}
	list, err := f.Remove(ctx, "child:1", false, false)
	_, removed := deleted(list)
	if err != nil || !slices.Equal(removed, []string{child.ID.String(), img.ID.String()}) {
		t.Errorf("the parent did not go with its child: %v %v", list, err)
	}
	if n := blobCount(t, f); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestTagMovesAName(t *testing.T) {
	f := newFixture(t)
	old := f.commit(t, "app:1", "", nil, map[string]string{"a": "a"})
	now := f.commit(t, "app:1", "", nil, map[string]string{"b": "b"})
	if got, err := f.Get(ctx, "app:1"); err != nil || got.ID != now.ID {
		t.Error(got, err)
	}
	if got, err := f.Get(ctx, old.ID.String()); err != nil || len(got.Names) != 0 {
		t.Errorf("the old image: %v %v", got, err)
	}
	report, err := f.Prune(ctx, nil)
	if _, removed := deleted(report.ImagesDeleted); err != nil || !slices.Equal(removed, []string{old.ID.String()}) || report.SpaceReclaimed == 0 {
		t.Errorf("prune: %+v %v", report, err)
	}
	report, err = f.Prune(ctx, filter.Args{"dangling": {"false"}, "label": {"keep=no"}})
	if err != nil || len(report.ImagesDeleted) != 0 {
		t.Errorf("prune by label: %+v %v", report, err)
	}
	report, err = f.Prune(ctx, filter.Args{"dangling": {"false"}})
	if err != nil || len(report.ImagesDeleted) != 2 || blobCount(t, f) != 0 {
		t.Errorf("prune all: %+v %v", report, err)
	}
}
