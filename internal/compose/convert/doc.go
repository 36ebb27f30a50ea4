// Package convert turns a service into the request that makes a container of it, and networks and volumes into theirs. It is
// pure: what it needs to know of the machine and of containers that there are is handed to it.
package convert
