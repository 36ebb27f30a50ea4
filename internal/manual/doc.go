// Package manual describes commands: as pages for people who read the repository (docs/reference), and as man pages for a
// package. It reads what the commands say of themselves, so nothing is written down twice. No program that is installed links it.
package manual
