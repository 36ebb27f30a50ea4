// Package content keeps blobs by digest in an OCI image layout that other tools can read.
//
// # The life of a blob
//
// Create opens the partial file of a blob, keyed by its digest, with what an earlier, interrupted attempt left in it;
// bytes are hashed as they are written, and Follow reads them while they come. Commit verifies size and digest and
// renames the file to its place below blobs/. A blob whose digest is not known beforehand starts as a Draft.
//
// Nothing is synced one by one: Sync writes the whole file system back once, at the end of an operation, and only then
// may the operation name the blob in index.json. A blob in the layout that no name reaches was never acknowledged, so
// Open turns it into a partial file again: the next attempt hashes it anew instead of trusting or fetching it.
//
// A Lease protects digests from Sweep while an operation uses them that is not finished, and therefore not yet named.
//
// # The directory
//
//	oci-layout, index.json   the OCI image layout
//	blobs/ALGORITHM/HEX      complete, verified blobs
//	ingest/ALGORITHM-HEX     partial blobs, kept for a day
//	ingest/draft-*           blobs without a known digest yet, dropped by Open
package content
