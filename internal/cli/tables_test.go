package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kistdev/kist/internal/testbed/suite"
)

// stocked is a daemon with one of everything.
func stocked(t *testing.T) *fakeDaemon {
	t.Helper()
	d := newFakeDaemon(t)
	day := time.Now().Add(-49 * time.Hour).Unix()
	d.answer("GET /containers/json", 200, fmt.Sprintf(`[
 {"Id":"0123456789abcdef0123","Names":["/web","/other/alias"],"Image":"registry.test/web:1","Command":"python3 -m http.server 8080","Created":%d,
  "State":"running","Status":"Up 2 days (healthy)","Labels":{"b":"2","com.example.stage":"prod"},"SizeRw":1234567,"SizeRootFs":99000000,
  "Ports":[{"IP":"0.0.0.0","PrivatePort":8080,"PublicPort":80,"Type":"tcp"},{"IP":"::","PrivatePort":8080,"PublicPort":80,"Type":"tcp"},
   {"PrivatePort":5000,"Type":"tcp"},{"PrivatePort":5001,"Type":"tcp"},{"PrivatePort":5003,"Type":"tcp"},
   {"IP":"127.0.0.1","PrivatePort":9000,"PublicPort":9000,"Type":"udp"},{"IP":"127.0.0.1","PrivatePort":9001,"PublicPort":9001,"Type":"udp"}],
  "Mounts":[{"Type":"volume","Name":"0000111122223333444455","Driver":"local"},{"Type":"bind","Source":"/srv"}],
  "NetworkSettings":{"Networks":{"bridge":{},"a":{}}}},
 {"Id":"fedcba98765432100000","Names":["/done"],"Image":"sha256:aaaabbbbccccddddeeee","ImageID":"sha256:aaaabbbbccccddddeeee","Command":"true","Created":%d,"State":"exited","Status":"Exited (0) 2 days ago"}]`, day, day))
	d.answer("GET /images/json", 200, fmt.Sprintf(`[
 {"Id":"sha256:1111222233334444","RepoTags":["web:1"],"RepoDigests":["web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],"Created":%d,"Size":78123456,"SharedSize":-1,"Containers":-1},
 {"Id":"sha256:9999222233334444","RepoTags":["registry.test:5000/web:2"],"RepoDigests":[],"Created":%d,"Size":5,"SharedSize":-1,"Containers":-1},
 {"Id":"sha256:5555666677778888","RepoTags":[],"RepoDigests":[],"Created":%d,"Size":1000,"SharedSize":400,"Containers":2}]`, day, day, day))
	d.answer("GET /volumes", 200, `{"Volumes":[{"Name":"data","Driver":"local","Mountpoint":"/v/data","Scope":"local","Labels":{"a":"b"}}]}`)
	d.answer("GET /networks", 200, `[{"Name":"none","Id":"ffff0000111122223333","Driver":"null","Scope":"local","EnableIPv4":true},{"Name":"bridge","Id":"aaaa0000111122223333","Driver":"bridge","Scope":"local"}]`)
	d.answer("GET /images/web/history", 200, fmt.Sprintf(`[{"Id":"sha256:1111222233334444","Created":%d,"CreatedBy":"RUN\tapt-get update && apt-get install -y python3 curl","Size":30000000},{"Id":"<missing>","Created":%d,"CreatedBy":"ADD /","Size":0,"Comment":"base"}]`, day, day))
	d.answer("GET /system/df", 200, `{"ImageUsage":{"TotalCount":3,"ActiveCount":1,"TotalSize":2000000,"Reclaimable":500000},"ContainerUsage":{"TotalCount":1,"ActiveCount":1,"TotalSize":10},"VolumeUsage":{},"BuildCacheUsage":{}}`)
	d.answer("GET /containers/web/changes", 200, `[{"Path":"/a","Kind":1},{"Path":"/b","Kind":0},{"Path":"/c","Kind":2}]`)
	d.answer("GET /containers/web/json", 200, `{"Id":"0123456789abcdef0123","Name":"/web","Created":"2026-01-01T00:00:00Z","State":{"Running":true,"Status":"running","ExitCode":0},"Config":{"Tty":false,"Image":"web:1","Env":["A=<b>"],"Labels":{"k":"v"}},
 "HostConfig":{"Memory":5},"NetworkSettings":{"Ports":{"8080/tcp":[{"HostIp":"0.0.0.0","HostPort":"80"},{"HostIp":"::","HostPort":"80"}],"53/udp":null}}}`)
	d.answer("GET /containers/web/top", 200, `{"Titles":["PID","CMD"],"Processes":[["1","sh"],["22","sleep 5"]]}`)
	d.answer("GET /events", 200, `{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"name":"web","exitCode":"1"}},"time":1700000000,"timeNano":1700000000000000001}
{"Type":"network","Action":"connect","Actor":{"ID":"n"},"time":1700000001}`)
	d.answer("GET /containers/web/stats", 200, `{"id":"0123456789abcdef0123","name":"/web","read":"2026-01-01T00:00:01Z","cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":2},
 "precpu_stats":{"cpu_usage":{"total_usage":200},"system_cpu_usage":1000},"memory_stats":{"usage":3145728,"limit":104857600,"stats":{"inactive_file":1048576}},"networks":{"eth0":{"rx_bytes":1500,"tx_bytes":20}},
 "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":4096},{"op":"write","value":1}]},"pids_stats":{"current":3}}`)
	return d
}

func TestTables(t *testing.T) {
	d := stocked(t)
	for _, tc := range []struct{ name, args string }{
		{"ps", "ps -a"},
		{"ps-size-no-trunc", "container ls -s --no-trunc"},
		{"ps-quiet", "ps -q"},
		{"ps-template", `ps --format {{.ID}}|{{.Names}}|{{.Label "b"}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{upper .State}}`},
		{"ps-table-template", `ps --format table_{{.Names}}\t{{.Label "com.example.stage"}}\t{{truncate .Image 5}}`},
		{"images", "images"},
		{"images-digests", "image ls --digests --no-trunc"},
		{"images-quiet", "images -q"},
		{"images-json", "images --format json"},
		{"volumes", "volume ls"},
		{"volumes-template", `volume ls --format {{.Name}}_{{.Mountpoint}}_{{.Label "a"}}_{{.Size}}`},
		{"networks", "network ls"},
		{"networks-no-trunc", "network ls --no-trunc -q"},
		{"history", "history web"},
		{"df", "system df"},
		{"diff", "diff web"},
		{"port", "port web"},
		{"port-one", "port web 8080/tcp"},
		{"port-none", "port web 1"},
		{"top", "top web"},
		{"stats", "stats --no-stream web"},
		{"events", "events"},
		{"events-template", `events --format {{.Type}}:{{.Action}}:{{.Actor.Attributes.name}}`},
		{"inspect", "inspect web"},
		{"inspect-template", `inspect -f {{.State.Running}}_{{.Id}}_{{.ID}}_{{json_.Config.Env}} web`},
		{"inspect-typed", `inspect -f {{.Name}}_{{if_.State.Running}}up{{end}}_{{range_$p,$c:=.NetworkSettings.Ports}}{{$p}}={{len_$c}};{{end}} web`},
		{"inspect-raw", `inspect -f {{.Id}}_{{.HostConfig.Memory}} web`},
		{"inspect-missing", "inspect wob"},
		{"unknown-command", "imgaes"},
		{"unknown-group-command", "container lss"},
		{"context", "context show"},
		{"help-group", "volume --help"},
		{"help-command", "tag --help"},
		{"too-few", "tag x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := strings.Fields(tc.args)
			for i, s := range args {
				switch {
				case strings.HasPrefix(s, "table_"):
					args[i] = "table " + s[len("table_"):]
				case strings.HasPrefix(tc.name, "inspect-"):
					args[i] = strings.ReplaceAll(s, "_", " ")
				}
			}
			for i := 1; i < len(args); i++ { // a template's own blanks were split
				if strings.Count(args[i-1], "{{") > strings.Count(args[i-1], "}}") {
					args[i-1] += " " + args[i]
					args = append(args[:i], args[i+1:]...)
					i--
				}
			}
			r := d.kist(args...)
			r.out = regexp.MustCompile(`"CreatedAt":"[^"]*"`).ReplaceAllString(r.out, `"CreatedAt":"..."`)
			suite.Golden(t, tc.name+".golden", fmt.Sprintf("code %d\n-- stdout --\n%s-- stderr --\n%s", r.code, r.out, r.err))
		})
	}
}

// TestTablesAsDocker compares what is printed with what the real docker command prints of the same answers.
func TestTablesAsDocker(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("no docker command on this machine")
	}
	d := stocked(t)
	for _, args := range [][]string{
		{"ps", "-a"},
		{"ps", "-as", "--no-trunc"},
		{"ps", "-aq"},
		{"ps", "-q", "--no-trunc"},
		{"images", "--digests"},
		{"images", "-q"},
		{"images", "--no-trunc"},
		{"ps", "--format", `{{.ID}} {{.Names}} {{.Label "b"}} {{.Labels}} {{.Mounts}} {{.LocalVolumes}} {{.Command}} {{.Image}} {{.RunningFor}} {{.Status}} {{.State}} {{.Size}}`},
		{"ps", "--format", `table {{.Names}}\t{{.Label "com.example.stage"}}\t{{lower .Image}}`},
		{"ps", "--format", "table"},
		{"ps", "--format", "raw"},
		{"images", "--format", "{{.ID}} {{.Repository}} {{.Tag}} {{.Size}} {{.CreatedSince}} {{.SharedSize}} {{.Containers}}"},
		{"volume", "ls"},
		{"volume", "ls", "-q"},
		{"volume", "ls", "--format", `{{.Name}} {{.Driver}} {{.Mountpoint}} {{.Label "a"}} {{.Labels}} {{.Scope}} {{.Size}} {{.Links}}`},
		{"network", "ls"},
		{"network", "ls", "-q", "--no-trunc"},
		{"history", "web"},
		{"history", "-q", "web"},
		{"history", "--no-trunc", "-H=false", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}}", "web"},
		{"diff", "web"},
		{"port", "web"},
		{"port", "web", "8080/tcp"},
		{"top", "web"},
		{"inspect", "web"},
		{"inspect", "-f", "{{.Name}} {{.State.Status}} {{json .Config.Env}}", "web"},
		{"inspect", "-f", "{{.Id}}", "web"},
		{"inspect", "-f", "{{json .State.Running}} {{.Config.Labels}} {{index .Config.Env 0}}", "web"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, docker, append([]string{"-H", d.host}, args...)...)
			cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir(), "TZ=UTC")
			want, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := d.kist(args...); got.out != string(want) || got.code != 0 {
				t.Errorf("docker:\n%s\nkist:\n%s%s", want, got.out, got.err)
			}
		})
	}
}
