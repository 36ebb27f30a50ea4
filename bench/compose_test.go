package bench

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kistdev/kist/internal/testbed"
)

// fiveServices is a project as it is found everywhere: a front, two services behind it, a database and a queue.
const fiveServices = `
name: five
x-common: &common {image: "kist.test/busybox:latest", command: sleep 100000, stop_grace_period: 0s}
services:
  front: {<<: *common, ports: ["127.0.0.1:8080:80"], depends_on: [api], networks: [outside, inside]}
  api: {<<: *common, environment: {DB: db}, depends_on: [db, queue], networks: [inside]}
  worker: {<<: *common, environment: {DB: db, QUEUE: queue}, depends_on: [db, queue], networks: [inside]}
  db: {<<: *common, volumes: ["data:/data"], networks: [inside]}
  queue: {<<: *common, networks: [inside]}
networks: {outside: {}, inside: {internal: true}}
volumes: {data: {}}
`

// TestCompose measures commands on a project of five services: one that changes nothing, one that shows, and from nothing to nothing.
func TestCompose(t *testing.T) {
	want(t, "compose")
	k := kist(t)
	if err := loaded(t, k, testbed.Busybox); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(k.host.Dir, "compose.yaml")
	if err := os.WriteFile(file, []byte(fiveServices), 0o600); err != nil {
		t.Fatal(err)
	}
	type contestant struct {
		name string
		p    *program
		err  error
	}
	all := []*contestant{{name: "kist compose", p: &program{t: t, host: k.host, path: k.path, args: []string{"compose", "-f", file}}}}
	if tool := testbed.Tool("docker-compose"); tool == "" {
		all = append(all, &contestant{name: "docker compose", err: errors.New("not built")})
	} else {
		all = append(all, &contestant{name: "docker compose, on kist", p: &program{
			t: t, host: k.host, path: tool, args: []string{"-f", file}, env: []string{"DOCKER_HOST=unix://" + k.host.Socket()},
		}})
		d, err := docker(t)
		if err == nil {
			err = loaded(t, d, testbed.Busybox)
		}
		c := &contestant{name: "docker compose, on docker", err: err}
		if err == nil {
			c.p = &program{t: t, host: d.host, path: tool, args: []string{"-f", file}, env: d.env}
		}
		all = append(all, c)
	}
	for _, m := range []struct {
		title  string
		rounds int
		up     bool // before
		args   [][]string
	}{
		{"five services: up -d and down", 5, false, [][]string{{"up", "-d"}, {"down", "-v"}}},
		{"five services: up -d, nothing changed", 20, true, [][]string{{"up", "-d"}}},
		{"five services: ps", 20, true, [][]string{{"ps"}}},
	} {
		var rows []*row
		for _, c := range all {
			r := &row{name: c.name, err: c.err}
			rows = append(rows, r)
			if c.err != nil {
				continue
			}
			if m.up {
				if r.err = c.p.do("up", "-d"); r.err != nil {
					continue
				}
			}
			var steps []func() error
			for _, args := range m.args {
				steps = append(steps, c.p.runner(args...))
			}
			r.run = func() error {
				for _, step := range steps {
					if err := step(); err != nil {
						return err
					}
				}
				return nil
			}
		}
		race(m.rounds, rows)
		report(t, m.title, rows)
	}
	for _, c := range all {
		if c.err == nil {
			if err := c.p.do("down", "-v"); err != nil {
				t.Error(err)
			}
		}
	}
}
