// Package serve makes the images of this machine a registry that the machines around can pull from and push to, as the OCI
// distribution specification has it.
//
// Nothing is copied for it: what is pulled is read from the image store (an image.Shelf), the plain tars of layers that were
// built here are written while they are sent, and what is pushed becomes a local image.
//
//	GET, HEAD       /v2/                                   is this a registry, may I in
//	GET             /v2/_catalog                           repositories
//	GET             /v2/REPO/tags/list
//	GET, HEAD, PUT, DELETE  /v2/REPO/manifests/TAG|DIGEST
//	GET             /v2/REPO/referrers/DIGEST
//	GET, HEAD       /v2/REPO/blobs/DIGEST                  ranges too
//	POST            /v2/REPO/blobs/uploads/                begins an upload, is a whole one, or takes a blob of another repository
//	GET, PATCH, PUT, DELETE /v2/REPO/blobs/uploads/ID
package serve
