package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// settings is docker's config.json as far as kist heeds it. What it does not know stays in the file.
type settings struct {
	Auths       map[string]authEntry     `json:"auths,omitempty"`
	CredsStore  string                   `json:"credsStore,omitempty"`
	CredHelpers map[string]string        `json:"credHelpers,omitempty"`
	DetachKeys  string                   `json:"detachKeys,omitempty"`
	PsFormat    string                   `json:"psFormat,omitempty"`
	Images      string                   `json:"imagesFormat,omitempty"`
	Networks    string                   `json:"networksFormat,omitempty"`
	Volumes     string                   `json:"volumesFormat,omitempty"`
	Stats       string                   `json:"statsFormat,omitempty"`
	Proxies     map[string]proxySettings `json:"proxies,omitempty"`
	// CurrentContext is what `context use` chose.
	CurrentContext string `json:"currentContext,omitempty"`
}

// authEntry is a registry's credentials in the file.
type authEntry struct {
	Auth          string `json:"auth,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// proxySettings become environment variables of new containers.
type proxySettings struct {
	HTTPProxy  string `json:"httpProxy,omitempty"`
	HTTPSProxy string `json:"httpsProxy,omitempty"`
	NoProxy    string `json:"noProxy,omitempty"`
	FTPProxy   string `json:"ftpProxy,omitempty"`
	AllProxy   string `json:"allProxy,omitempty"`
}

func (a *app) settingsDir() string {
	if a.globals.configDir != "" {
		return a.globals.configDir
	}
	if d := a.getenv("DOCKER_CONFIG"); d != "" {
		return d
	}
	return filepath.Join(a.getenv("HOME"), ".docker")
}

func (a *app) settingsFile() string { return filepath.Join(a.settingsDir(), "config.json") }

// config reads the settings once. A broken file is reported and treated as empty, as docker does.
func (a *app) config() *settings {
	if a.settings != nil {
		return a.settings
	}
	a.settings = &settings{}
	b, err := os.ReadFile(a.settingsFile())
	if err == nil {
		err = json.Unmarshal(b, a.settings)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.note("warning: the settings cannot be read: " + err.Error())
	}
	return a.settings
}

// proxyEnv are the variables that the settings give every new container of a daemon.
func (s *settings) proxyEnv(host string) []string {
	p, ok := s.Proxies[host]
	if !ok {
		p = s.Proxies["default"]
	}
	var env []string
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", p.HTTPProxy}, {"HTTPS_PROXY", p.HTTPSProxy}, {"NO_PROXY", p.NoProxy}, {"FTP_PROXY", p.FTPProxy}, {"ALL_PROXY", p.AllProxy},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
		}
	}
	return env
}

// editSettings rewrites the file, unless nothing changed. What is not edited stays as it is.
func (a *app) editSettings(edit func(whole map[string]json.RawMessage) (changed bool, err error)) error {
	file := a.settingsFile()
	whole := map[string]json.RawMessage{}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &whole)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the settings: %w", err)
	}
	if changed, err := edit(whole); err != nil || !changed {
		return err
	}
	b, err = json.MarshalIndent(whole, "", "\t")
	if err != nil {
		return fmt.Errorf("encode the settings: %w", err)
	}
	return replaceFile(file, b)
}

// changeSettings rewrites the credentials.
func (a *app) changeSettings(change func(auths map[string]authEntry)) error {
	return a.editSettings(func(whole map[string]json.RawMessage) (bool, error) {
		auths := map[string]authEntry{}
		if raw, ok := whole["auths"]; ok {
			if err := json.Unmarshal(raw, &auths); err != nil {
				return false, fmt.Errorf("read the credentials in %s: %w", a.settingsFile(), err)
			}
		}
		before := maps.Clone(auths)
		change(auths)
		if maps.Equal(before, auths) {
			return false, nil
		}
		var err error
		if whole["auths"], err = json.Marshal(auths); err != nil {
			return false, fmt.Errorf("encode the credentials: %w", err)
		}
		return true, nil
	})
}

// replaceFile writes a file that only its owner may read, wholly or not at all. A symbolic link stays one.
func replaceFile(file string, b []byte) error {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("make the settings' directory: %w", err)
	}
	t, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file))
	if err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	_, werr := t.Write(b)
	if err := errors.Join(werr, t.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the settings: %w", err), os.Remove(t.Name()))
	}
	if err := os.Rename(t.Name(), file); err != nil {
		return errors.Join(fmt.Errorf("write the settings: %w", err), os.Remove(t.Name()))
	}
	return nil
}

// encodeAuth is the form of a name and password in the file.
func encodeAuth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}
