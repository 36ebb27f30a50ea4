// Package suite is what the tests of several packages begin and end with: where a package's tests run, what they may not leave
// behind, and files that hold what is to come out.
package suite
