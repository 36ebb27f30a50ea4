// Package fetch gets what a build names by a URL: files by HTTP and trees by git.
//
// # Two steps
//
// Resolve finds out what a URL means now (a content's digest, a commit), which is the identity that a build caches by;
// getting it into a directory comes later, if at all. What was downloaded is kept, and asked for again with its ETag or the
// time of its last change, so that an unchanged file is not transferred twice, and of a repository only what is new.
//
// # Hostile servers
//
// URLs come from Dockerfiles, and what answers may mean harm. Only the schemes that are known are followed, through a
// bounded number of redirects; a download that stops is given up, and one has a limit. Git runs as a program of its own,
// with no configuration but ours: no hooks, no filters, no credentials of the user, no prompts, no other transports than
// http, https, git and ssh, not for submodules either.
package fetch
