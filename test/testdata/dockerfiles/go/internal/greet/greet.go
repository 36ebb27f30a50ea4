// Package greet says hello.
package greet

// From greets as a version.
func From(greeting, version string) string { return greeting + " from " + version }
