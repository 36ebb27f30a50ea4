package api

import "strings"

// Of what clients that take whatever version of the API the daemon says it has know the shapes.
const (
	// knownToPython is the last version in which disk usage is lists and events have the fields of old, which Docker's Python
	// client, up to 7, hands on to programs.
	knownToPython version = 51
	// knownToComposeV1 is the last version in which an image has a ContainerConfig: docker-compose 1 cannot recreate a container
	// without one.
	knownToComposeV1 version = 44
)

// lastKnown is the newest version that the client of a request understands.
func (r *request) lastKnown() version {
	for product := range strings.FieldsSeq(r.UserAgent()) {
		name, release, _ := strings.Cut(product, "/")
		major, _, _ := strings.Cut(release, ".")
		switch {
		case name == "docker-compose" && major == "1":
			return knownToComposeV1
		case (name == "docker-sdk-python" || name == "docker-py") && len(major) == 1 && major <= "7":
			return knownToPython
		}
	}
	return newest
}
