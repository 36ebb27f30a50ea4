package cli

import (
	"os"

	"github.com/kistdev/kist/internal/client"
)

// client returns the connection to the daemon that all of a command's requests use.
func (a *app) client() (*client.Client, error) {
	if a.shared != nil {
		return a.shared, nil
	}
	e, err := a.endpoint()
	if err != nil {
		return nil, err
	}
	o := client.Options{Agent: Version, API: a.getenv("DOCKER_API_VERSION")}
	if !a.globals.noAutostart && a.getenv("KIST_NO_AUTOSTART") == "" {
		o.Start = &client.Starter{}
	}
	a.shared = client.New(e, o)
	return a.shared, nil
}

func regular(file string) bool {
	st, err := os.Stat(file)
	return err == nil && st.Mode().IsRegular()
}
