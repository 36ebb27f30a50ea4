package api

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/kistdev/kist/internal/build"
)

func TestAddProvenance(t *testing.T) {
	one := build.Provenance{
		PredicateType: "https://slsa.dev/provenance/v1",
		Predicate: []byte(`{"buildDefinition":{"buildType":"t","resolvedDependencies":[{"uri":"pkg:docker/a"}],` +
			`"internalParameters":{"buildConfig":{"llbDefinition":[{"id":"step0"}]}}},"runDetails":{"metadata":{"invocationID":"i"}}}`),
	}
	for mode, more := range map[string]bool{"min": false, "max": true} {
		got := map[string]string{"image.name": "x"}
		if err := addProvenance(got, map[string]build.Provenance{"": one, "linux/arm64": one}, mode); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"buildx.build.provenance", "buildx.build.provenance/linux/arm64"} {
			raw, err := base64.StdEncoding.DecodeString(got[key])
			if err != nil || !strings.Contains(string(raw), `"uri":"pkg:docker/a"`) || strings.Contains(string(raw), "step0") != more || strings.Contains(string(raw), `"metadata"`) != more {
				t.Errorf("%s: %s: %s, %v", mode, key, raw, err)
			}
		}
	}
	if err := addProvenance(map[string]string{}, map[string]build.Provenance{"": {Predicate: []byte("{")}}, "min"); err == nil {
		t.Error("took nonsense")
	}
	if err := addProvenance(nil, nil, ""); err != nil {
		t.Error(err)
	}
}
