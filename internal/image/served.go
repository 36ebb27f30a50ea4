package image

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of index.json's entries for what a registry's clients put here beside images.
const (
	annotationServed    = "dev.kist.served" // the repository
	annotationServedTag = "dev.kist.served.tag"
	annotationServedAt  = "dev.kist.served.at"
	annotationSubject   = "dev.kist.served.subject"
	annotationArtifact  = "dev.kist.served.artifact" // nothing that has a local name
)

// mediaTypeArtifact is that of a manifest which OCI gave up again; some tools still write it.
const mediaTypeArtifact = "application/vnd.oci.artifact.manifest.v1+json"

// unclaimed is how long something that was pushed by its digest waits for a tag, an index or a subject that names it.
const unclaimed = 24 * time.Hour

// served is a manifest that a client of the registry put here and that is no local image by itself: an index, an artifact, a
// part of an index that is still to come.
type served struct {
	repo     string // as in the names of images, without a tag
	tag      string // empty for one known by its digest only
	desc     ocispec.Descriptor
	subject  digest.Digest
	artifact bool
	at       time.Time
}

func servedOf(d ocispec.Descriptor) (served, bool) {
	a := d.Annotations
	if a[annotationServed] == "" || d.Digest.Validate() != nil {
		return served{}, false
	}
	v := served{
		repo: a[annotationServed], tag: a[annotationServedTag], subject: digest.Digest(a[annotationSubject]),
		artifact: a[annotationArtifact] != "",
		desc:     ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size},
	}
	v.at, _ = time.Parse(time.RFC3339Nano, a[annotationServedAt])
	return v, true
}

func (v served) descriptor() ocispec.Descriptor {
	d := v.desc
	d.Annotations = map[string]string{annotationServed: v.repo, annotationServedAt: v.at.Format(time.RFC3339Nano)}
	if v.tag != "" {
		d.Annotations[annotationServedTag] = v.tag
	}
	if v.subject != "" {
		d.Annotations[annotationSubject] = v.subject.String()
	}
	if v.artifact {
		d.Annotations[annotationArtifact] = "1"
	}
	return d
}

// current says whether what was pushed under a tag is still what the tag stands for: it may have been given to another
// image, or removed, by somebody on this machine.
func (v served) current(entries []entry) bool {
	if v.tag == "" || v.artifact {
		return true
	}
	name := v.repo + ":" + v.tag
	return slices.ContainsFunc(entries, func(e entry) bool { return e.name == name && e.source == v.desc.Digest })
}

// tidyServed drops what no tag stands for any more, and what nobody has claimed.
func (ed *editor) tidyServed(now time.Time) {
	ed.served = slices.DeleteFunc(ed.served, func(v served) bool {
		if !v.current(ed.entries) {
			return true
		}
		return v.tag == "" && now.Sub(v.at) > unclaimed && !ed.hasSubject(v)
	})
}

// hasSubject says whether what the manifest is about is still here.
func (ed *editor) hasSubject(v served) bool {
	if v.subject == "" {
		return false
	}
	return slices.ContainsFunc(ed.entries, func(e entry) bool { return e.desc.Digest == v.subject || e.source == v.subject }) ||
		slices.ContainsFunc(ed.served, func(o served) bool { return o.desc.Digest == v.subject && o.desc.Digest != v.desc.Digest })
}

// putServed adds a manifest; one of the same tag, or digest if it has none, is replaced.
func (ed *editor) putServed(v served) {
	ed.served = slices.DeleteFunc(ed.served, func(o served) bool {
		return o.repo == v.repo && o.tag == v.tag && (v.tag != "" || o.desc.Digest == v.desc.Digest)
	})
	ed.served = append(ed.served, v)
}
