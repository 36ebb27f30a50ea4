// Package image owns images: their names, pull and push, load and save, unpacking, and what may be collected.
//
// # The life of an image
//
// Pull copies the blobs of one platform's manifest from a registry into the content store, and unpacks each layer while
// it downloads; only when every blob is verified and every layer unpacked is the name written into the layout's
// index.json, which is the truth about names and can be read by other tools. Removing an image removes a name; blobs and
// layers that no name and no container needs any more are collected.
//
// An image's id is the digest of its configuration, as docker's.
//
// # Names
//
// index.json has one entry per name: tags ("docker.io/library/debian:12"), and digests under which a registry knows the
// image ("docker.io/library/debian@sha256:..."). An image without any tag is dangling; one without any name has one entry
// that has no name. Annotations of our own tell an image's id, so that names are resolved without reading a blob.
package image
