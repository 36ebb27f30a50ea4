package build

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/kistdev/kist/internal/bridge"
	"github.com/kistdev/kist/internal/runstep"

	gwclient "github.com/moby/buildkit/frontend/gateway/client"
)

// TestFrontendVerdict: what a frontend returned as an error says more than its exit, its exit more than a result.
func TestFrontendVerdict(t *testing.T) {
	f := &frontendImage{source: "example.com/own:1"}
	f.config.Entrypoint = []string{"/run"}
	step := &StepError{Name: "s", Err: errors.New("step failed")}
	trace := "panic: at once\n\ngoroutine 1 [running]:\nmain.main()\n\t/main.go:1\nexit status 2\nmore\nlines\n"
	for _, tc := range []struct {
		name     string
		returned bool
		said     error
		ended    error
		want     string // of the error; empty for a result
	}{
		{"result", true, nil, nil, ""},
		{"result, and then it hangs", true, nil, errReturned, ""},
		{"result and exit", true, nil, &runstep.ExitError{Code: 3}, "exit code 3, and said nothing"},
		{"its own error", true, errors.New("line 2: what?"), &runstep.ExitError{Code: 1}, "example.com/own:1 failed: line 2: what?"},
		{"a step's error", true, step, &runstep.ExitError{Code: 1}, "step failed"},
		{"crash", false, nil, &runstep.ExitError{Code: 2, Tail: trace}, "exit code 2, and said last: panic: at once"},
		{"last lines", false, nil, &runstep.ExitError{Code: 1, Tail: "1\n2\n3\n4\n5\n6\xff\n"}, "said last: 2\n3\n4\n5\n6?"},
		{"garbage", false, nil, errors.Join(&bridge.GarbageError{Said: []byte("hi\nho")}, errors.New("killed")), `this one wrote "hi"`},
		{"silence", false, nil, errSilent, "closed its connection"},
		{"nothing", false, nil, nil, "it ended without a result"},
		{"not started", false, nil, errors.New("no such user"), "the frontend example.com/own:1: no such user"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var res *gwclient.Result
			if tc.returned && tc.said == nil {
				res = gwclient.NewResult()
			}
			got, err := f.verdict(res, tc.returned, tc.said, tc.ended)
			if tc.want == "" {
				if err != nil || got != res {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if err == nil || got != nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q in it", err, tc.want)
			}
		})
	}
}

// TestFrontendRequest: a frontend is told its options and its graph, and gets a root that is thrown away, without more.
func TestFrontendRequest(t *testing.T) {
	w := newWorld(t)
	j, err := w.b.newJob(t.Context(), &Request{Session: session{w}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.b.endJob(j)
	g := &gateway{j: j, attrs: map[string]string{"source": "own", "build-arg:A": "1=2", "target": "x"}}
	f := &frontendImage{source: "own", def: &pb.Definition{Def: [][]byte{{1}}}}
	f.config.Env = []string{"PATH=/bin"}
	r, err := f.request(g)
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Join(r.Op.Meta.Env, "\n")
	for _, want := range []string{"PATH=/bin\n", "_OPT_0=build-arg:A=1=2\n", "_OPT_1=source=own\n", "_OPT_2=target=x\n", "BUILDKIT_SESSION_ID=", `BUILDKIT_WORKERS=[{"ID":"kist"`, "BUILDKIT_EXPORTEDPRODUCT=kist"} {
		if !strings.Contains(env, want) {
			t.Errorf("no %q in\n%s", want, env)
		}
	}
	if r.Op.Network != pb.NetMode_UNSET || r.Op.Security != pb.SecurityMode_SANDBOX || r.HostNetwork || r.Insecure || r.Op.Meta.Args[0] != "/run" {
		t.Errorf("%+v", r.Op)
	}
	for _, m := range r.Mounts {
		if m.Output >= 0 || m.Source.Local != nil || m.MountType != pb.MountType_BIND && m.MountType != pb.MountType_SECRET {
			t.Errorf("mount %+v", m)
		}
	}
	if raw, err := r.Secrets(context.Background(), metadataFile); err != nil || len(raw) == 0 {
		t.Errorf("%q, %v", raw, err)
	}
	f.config.Labels = map[string]string{labelNoNetwork: "true"}
	if r, err = f.request(g); err != nil || r.Op.Network != pb.NetMode_NONE {
		t.Errorf("%+v, %v", r.Op, err)
	}
}

func TestFrontendCapabilities(t *testing.T) {
	f := &frontendImage{}
	f.config.Labels = map[string]string{labelCaps: "a, moby.buildkit.frontend.inputs"}
	for _, tc := range []struct {
		wants  string
		inputs bool
		ok     bool
	}{
		{"", false, true},
		{"a", false, true},
		{"a+forward,moby.buildkit.frontend.inputs", false, true},
		{"a,b", false, false},
		{"", true, true},
	} {
		if err := f.capable(map[string]string{"frontend.caps": tc.wants}, tc.inputs); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	f.config.Labels = nil
	if err := f.capable(nil, true); err == nil || !strings.Contains(fmt.Sprint(err), "inputs") {
		t.Errorf("inputs: %v", err)
	}
}
