package image

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

func TestApplyChanges(t *testing.T) {
	for _, tc := range []struct {
		changes []string
		want    string // the configuration as JSON
	}{
		{[]string{`CMD ["a", "b"]`}, `{"Cmd":["a","b"]}`},
		{[]string{`cmd echo $HOME`}, `{"Cmd":["/bin/sh","-c","echo $HOME"]}`},
		{[]string{`SHELL ["bash","-c"]`, `CMD x`}, `{"Cmd":["bash","-c","x"],"Shell":["bash","-c"]}`},
		{[]string{`CMD a`, `ENTRYPOINT ["e"]`}, `{"Entrypoint":["e"],"Cmd":["/bin/sh","-c","a"]}`},
		{[]string{`ENV A=1 B="two words" C=a\ b`, `ENV A=2`}, `{"Env":["A=2","B=two words","C=a b"]}`},
		{[]string{`ENV A the "rest" of it`}, `{"Env":["A=the rest of it"]}`},
		{[]string{`ENV A=1`, `ENV B=$A${A}${X:-d}${A:+s}'$A'\$A "C=$A"`}, `{"Env":["A=1","B=11ds$A$A","C=1"]}`},
		{[]string{`LABEL a=b "c d"="e f"`, `LABEL x y z`}, `{"Labels":{"a":"b","c d":"e f","x":"y z"}}`},
		{[]string{`EXPOSE 80 53/udp 8000-8002`}, `{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{}}}`},
		{[]string{`VOLUME /a /b`, `VOLUME ["/c d"]`}, `{"Volumes":{"/a":{},"/b":{},"/c d":{}}}`},
		{[]string{`USER me:us`, `WORKDIR /a`, `WORKDIR b/../c`, `STOPSIGNAL SIGINT`}, `{"User":"me:us","WorkingDir":"/a/c","StopSignal":"SIGINT"}`},
		{[]string{`ONBUILD RUN x y`}, `{"OnBuild":["RUN x y"]}`},
		{[]string{`HEALTHCHECK --interval=5s --retries=3 CMD curl -f x`}, `{"Healthcheck":{"Test":["CMD-SHELL","curl -f x"],"Interval":5000000000,"Retries":3}}`},
		{[]string{`HEALTHCHECK CMD ["a"]`}, `{"Healthcheck":{"Test":["CMD","a"]}}`},
		{[]string{`HEALTHCHECK NONE`}, `{"Healthcheck":{"Test":["NONE"]}}`},
		{[]string{"ENV A=1 \\\n B=2\n# no\n\nUSER x"}, `{"User":"x","Env":["A=1","B=2"]}`},
	} {
		var c dockerspec.DockerOCIImageConfig
		if err := ApplyChanges(&c, tc.changes); err != nil {
			t.Errorf("%q: %v", tc.changes, err)
			continue
		}
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if string(raw) != tc.want {
			t.Errorf("%q:\ngot  %s\nwant %s", tc.changes, raw, tc.want)
		}
	}
}

func TestEntrypointDropsCmd(t *testing.T) {
	var c dockerspec.DockerOCIImageConfig
	c.Cmd = []string{"old"}
	if err := ApplyChanges(&c, []string{`ENTRYPOINT ["e"]`}); err != nil || c.Cmd != nil {
		t.Errorf("%v %v", c.Cmd, err)
	}
}

func TestApplyChangesRefuses(t *testing.T) {
	for _, change := range []string{
		"FROM x", "RUN x", "COPY a b", "NOPE", "ENV", "ENV A", "ENV =b", "ENV A=1 B", `ENV A="open`, "ENV A=${", "ENV A=${X:?}", "LABEL",
		"EXPOSE x", "EXPOSE 70000", "EXPOSE 9-8", "EXPOSE 80/icmp", "USER a b", "STOPSIGNAL", `VOLUME [""]`, "SHELL x", "SHELL []",
		"ONBUILD ONBUILD x", "ONBUILD FROM x", "HEALTHCHECK", "HEALTHCHECK x", "HEALTHCHECK CMD", "HEALTHCHECK NONE x",
		"HEALTHCHECK --interval=x CMD a", "HEALTHCHECK --nope=1 CMD a", "HEALTHCHECK --interval=1ns CMD a", "HEALTHCHECK --retries=-1 CMD a",
	} {
		var c dockerspec.DockerOCIImageConfig
		if err := ApplyChanges(&c, []string{change}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", change, err)
		}
	}
}

// TestApplyChangesLeavesOthersAlone changes a copy of a configuration whose maps and lists are shared.
func TestApplyChangesLeavesOthersAlone(t *testing.T) {
	var c dockerspec.DockerOCIImageConfig
	c.Env, c.Labels = append(make([]string, 0, 8), "A=1"), map[string]string{"a": "1"}
	shared := c
	if err := ApplyChanges(&c, []string{"ENV A=2 B=3", "LABEL a=2", "EXPOSE 80", "VOLUME /v", "ONBUILD USER x"}); err != nil {
		t.Fatal(err)
	}
	if shared.Env[0] != "A=1" || shared.Labels["a"] != "1" || len(shared.ExposedPorts)+len(shared.Volumes)+len(shared.OnBuild) > 0 {
		t.Errorf("changed: %+v", shared)
	}
}

func FuzzApplyChanges(f *testing.F) {
	for _, seed := range []string{"ENV A=$B${C:-d}'x'", "LABEL a b", "HEALTHCHECK --interval=1s CMD x", "EXPOSE 1-65535/udp", "VOLUME [\"a\"]", "\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, change string) {
		var c dockerspec.DockerOCIImageConfig
		err := ApplyChanges(&c, []string{change})
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", change, err)
		}
		if err == nil && strings.HasPrefix(strings.ToUpper(change), "WORKDIR ") && !strings.HasPrefix(c.WorkingDir, "/") {
			t.Errorf("%q: %q", change, c.WorkingDir)
		}
	})
}
