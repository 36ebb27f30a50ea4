package cli

import (
	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/client"
)

// diff lists changed files: A added, C changed, D deleted.
func (a *app) diff(name string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	changes, err := client.CallJSON[[]container.FilesystemChange](cl, client.Get(containerPath(name, "/changes"), nil))
	if err != nil {
		return a.hintContainer(cl, name, err)
	}
	if changes == nil {
		return nil
	}
	for _, c := range *changes {
		if err := a.printLine(c.Kind.String() + " " + c.Path); err != nil {
			return err
		}
	}
	return nil
}
