package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// completions of a line, as a shell asks for them.
func completed(t *testing.T, d *fakeDaemon, words ...string) []string {
	t.Helper()
	r := d.kist(append([]string{"__completeNoDesc"}, words...)...)
	if r.code != 0 {
		t.Fatalf("complete %q: %+v", words, r)
	}
	lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	return lines[:len(lines)-1] // the last one is for the shell
}

func livingDaemon(t *testing.T) *fakeDaemon {
	d := newFakeDaemon(t)
	d.answer("GET /containers/json", 200, `[{"Names":["/web"]},{"Names":["/worker","/web/alias"]},{"Names":["/db"]}]`)
	d.answer("GET /images/json", 200, `[{"RepoTags":["app:latest","app:2"]},{"RepoTags":["<none>:<none>"]}]`)
	d.answer("GET /volumes", 200, `{"Volumes":[{"Name":"data"},{"Name":"evil\nname"}]}`)
	d.answer("GET /networks", 200, `[{"Name":"back"},{"Name":"bridge"}]`)
	d.answer("GET /info", 200, `{"DiscoveredDevices":[{"Source":"cdi","ID":"v.com/c=a"}]}`)
	return d
}

func TestComplete(t *testing.T) {
	d := livingDaemon(t)
	for _, tc := range []struct{ line, want string }{
		{"stop w", "web worker"},
		{"stop web w", "worker"},
		{"container stop d", "db"},
		{"exec w", "web worker"},
		{"exec web w", ""},
		{"network connect b", "back bridge"},
		{"network connect back w", "web worker"},
		{"volume rm ", "data"},
		{"run a", "app app:2 app:latest"},
		{"run app a", ""},
		{"run --network ba", "back"},
		{"run --device v", "v.com/c=a"},
		{"image rm app:", "app:2 app:latest"},
		{"images a", "app"},
		{"inspect ", "db web worker"},
		{"net", "network"},
		{"context use ", "default"},
		{"context cr", "create"},
		{"--cont", "--context"},
	} {
		if got := strings.Join(completed(t, d, strings.Split(tc.line, " ")...), " "); got != tc.want {
			t.Errorf("kist %s: %q, want %q", tc.line, got, tc.want)
		}
	}
	for _, tc := range []struct{ line, filter string }{{"start ", "exited"}, {"unpause ", "paused"}} {
		d.reset()
		d.answer("GET /containers/json", 200, `[{"Names":["/web"]}]`)
		completed(t, d, strings.Split(tc.line, " ")...)
		if seen := d.seen("GET /containers/json"); len(seen) != 1 || !strings.Contains(seen[0].query, tc.filter) {
			t.Errorf("kist %s asked %+v", tc.line, seen)
		}
	}
}

// TestCompletionScripts has each shell that is here complete a line.
func TestCompletionScripts(t *testing.T) {
	d := livingDaemon(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "kist")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+asKist+"=1 exec "+self+" \"$@\"\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for shell, script := range map[string]string{
		"bash": `source "$DIR/bash"; complete -p kist; COMP_LINE="kist stop w" COMP_POINT=11; _kist; printf "%s\n" "${COMPREPLY[@]}"
			COMP_LINE="kist run app:" COMP_POINT=13; _kist; printf "tag %s\n" "${COMPREPLY[@]}"`,
		"zsh":  `autoload -U compinit; compinit -u -D; source "$DIR/zsh"; (( $+functions[_kist] )) && kist __complete stop w`,
		"fish": `source "$DIR/fish"; complete -C "kist stop w"`,
	} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("skip: no %s here", shell)
			}
			r := d.kist("completion", shell)
			if r.code != 0 {
				t.Fatalf("%+v", r)
			}
			if err := os.WriteFile(filepath.Join(dir, shell), []byte(r.out), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(path, "-c", script)
			cmd.Env = append(os.Environ(), "DIR="+dir, "PATH="+dir+":"+os.Getenv("PATH"), "DOCKER_HOST="+d.host, "HOME="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "web") || !strings.Contains(string(out), "worker") || strings.Contains(string(out), "db") || shell == "bash" && !strings.Contains(string(out), "tag latest") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// What only kist's daemon has is not asked of docker's without a word.
func TestForeignDaemon(t *testing.T) {
	d := newFakeDaemon(t)
	for _, route := range []string{"GET /kist/images/tree", "GET /kist/processes", "POST /kist/containers/create"} {
		d.answer(route, 404, `{"message":"page not found"}`)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("value"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"image", "tree"}, {"image", "tree", "x"}, {"top"}, {"create", "--secret", "id=s,src=" + file, "x"}} {
		if r := d.kist(args...); r.code == 0 || !strings.Contains(r.err, "needs a daemon of kist's") {
			t.Errorf("kist %q: %+v", args, r)
		}
	}
	if seen := d.seen("POST /containers/create"); len(seen) > 0 {
		t.Errorf("a container was made without its secret: %+v", seen)
	}
	d.answer("POST /kist/containers/create", 201, `{"Id":"abc"}`)
	r := d.kist("create", "--secret", "id=s,src="+file+",uid=0,mode=0440", "x")
	if seen := d.seen("POST /kist/containers/create"); r.out != "abc\n" || len(seen) != 2 || !strings.Contains(string(seen[1].body), `"Secrets":[{"ID":"s","Mode":288,"UID":0,"Data":"dmFsdWU="}]`) {
		t.Errorf("%+v %+v", r, seen)
	}
}
