// Package debian knows the formats of Debian's archives, and touches nothing: control paragraphs, versions, dependencies,
// Release files and their OpenPGP signatures, lists of packages, .deb files, apt's sources and configuration, and which
// packages belong to a system that can stand by itself.
//
// What is read comes from mirrors and may mean harm: everything is bounded, and nothing is believed that a signature, or a
// hash below a signature, does not cover. The callers see to that order: Keyring.Verify gives the text of a Release file,
// Release the hashes of lists, and Index the hashes of packages.
package debian
