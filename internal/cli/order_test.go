package cli

import (
	"reflect"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/kistdev/kist/internal/client"
	"github.com/kistdev/kist/internal/fault"
)

// TestOrderIsTheRequest compares what the daemon makes of a command line with what the client itself would ask for.
func TestOrderIsTheRequest(t *testing.T) {
	for _, args := range []string{
		"busybox",
		"--rm busybox true",
		"-d --name n --restart always busybox sleep 1",
		"-e A=b -e C= -e A=c -l x=y -l z busybox env",
		"-v /a:/b -v data:/c:ro -v /only --tmpfs /t:size=1m busybox",
		"--memory 1g --memory-swap -1 --cpus 1.5 --pids-limit 10 --ulimit nofile=10:20 --cpuset-cpus 0,1 busybox",
		"-p 8080:80 -p 127.0.0.1:53:53/udp --expose 90 --network none --hostname h --add-host a:1.2.3.4 --dns 1.1.1.1 busybox",
		"--network net --ip 10.0.0.2 --network-alias a --mac-address 02:42:ac:11:00:02 busybox",
		"--entrypoint= --user 1:2 --group-add 3 -w /w --read-only --privileged --init --cap-add ALL --cap-drop NET_RAW busybox x -y --rm",
		"--health-cmd true --health-interval 2s --stop-signal INT --stop-timeout 3 --log-driver local --log-opt max-size=1m busybox",
		"--pid host --ipc private --uts host --cgroupns host --sysctl net.a=b --oom-score-adj 5 --shm-size 1m --annotation a=b busybox",
	} {
		d := newFakeDaemon(t)
		d.answer("POST /containers/create", 201, `{"Id":"abc"}`)
		fields := strings.Fields(args)
		if r := d.kist(append([]string{"create"}, without(fields, "-d")...)...); r.code != 0 {
			t.Fatalf("%s: %+v", args, r)
		}
		want := decodeCreate(t, d.seen("POST /containers/create")[0])
		order, ok := ReadRun(fields)
		if !ok {
			t.Errorf("%s: declined", args)
			continue
		}
		r, err := client.PostJSON("/", nil, order.Request)
		if err != nil {
			t.Fatal(err)
		}
		got := decodeCreate(t, recorded{body: r.Body})
		if order.Detach {
			want.AttachStdout, want.AttachStderr = false, false
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v %+v\nwant\n%+v %+v", args, got.Config, got.HostConfig, want.Config, want.HostConfig)
		}
	}
}

func without(list []string, s string) []string {
	var out []string
	for _, x := range list {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}

// TestOrdersOfTheClient are those that only the client can carry out, or complain about.
func TestOrdersOfTheClient(t *testing.T) {
	for _, args := range []string{
		"", "--rm", "-i box", "-t box", "-it box", "-a stdout box", "-e A box", "--env-file f box", "--label-file f box", "--cidfile f box",
		"-v ./a:/b box", "-v ..:/b box", "-v ~/a:/b box", "--mount type=bind,src=a,dst=/b box", "--device /dev/null box", "--gpus all box",
		"--security-opt seccomp=f box", "--pull always box", "--platform linux/arm64 box", "-q box", "--sig-proxy=false box", "--detach-keys ctrl-x box",
		"--help", "--help box", "--nosuch box", "--memory x box", "--rm --restart always box", "-d -p 80:80 box", "-P -d box", "-e =x box",
		"--use-api-socket box", "--cpu-count 1 box", "--ip x box",
	} {
		if o, ok := ReadRun(strings.Fields(args)); ok {
			t.Errorf("run %s: %+v", args, o)
		}
	}
	for _, args := range []string{
		"", "box", "-i box cat", "-t box sh", "-it box sh", "-e A box env", "--env-file f box env", "--detach-keys ctrl-x box x", "--nosuch box x", "--help", "-e =x box env",
	} {
		if o, ok := ReadExec(strings.Fields(args)); ok {
			t.Errorf("exec %s: %+v", args, o)
		}
	}
}

func TestReadExec(t *testing.T) {
	o, ok := ReadExec(strings.Fields("-e A=b -e A=c -w /w -u 1 --privileged box ls -l --env"))
	want := container.ExecCreateRequest{
		User: "1", Privileged: true, Env: []string{"A=c"}, WorkingDir: "/w", Cmd: []string{"ls", "-l", "--env"}, AttachStdout: true, AttachStderr: true,
	}
	if !ok || o.Container != "box" || o.Detach() || !reflect.DeepEqual(o.Request, want) {
		t.Errorf("%v %+v", ok, o)
	}
	if o, ok := ReadExec([]string{"-d", "box", "x"}); !ok || !o.Detach() || o.Request.AttachStderr {
		t.Errorf("%v %+v", ok, o)
	}
}

func TestComplaint(t *testing.T) {
	for _, tc := range []struct {
		err   client.Error
		exec  bool
		color bool
		text  string
		code  int
	}{
		{client.Error{Status: 400, Parts: fault.Parts{Message: "m", Code: "exec-not-found", What: "what", Cause: "why", Try: "this"}}, false, false, "error: what [exec-not-found]\ncause: why\ntry:   this\n", 127},
		{client.Error{Status: 500, Parts: fault.Parts{Message: "m"}}, false, false, "error: m [internal]\ntry:   kist doctor\n", 125},
		{client.Error{Status: 500, Parts: fault.Parts{Message: "m"}}, true, false, "error: m [internal]\ntry:   kist doctor\n", 1},
		{client.Error{Status: 400, Parts: fault.Parts{Message: "permission denied"}}, true, true, "\x1b[1;31merror:\x1b[0m permission denied \x1b[2m[invalid-request]\x1b[0m\n", 126},
	} {
		if text, code := Complaint(&tc.err, tc.exec, tc.color); text != tc.text || code != tc.code {
			t.Errorf("%q, %d", text, code)
		}
	}
}
