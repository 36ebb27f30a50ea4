package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"

	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"

	"github.com/kistdev/kist/internal/build"
)

// addProvenance puts how the results came to be among what --metadata-file holds, as buildx writes it: in the form of SLSA 0.2, and
// without the graph and the times unless mode is max.
func addProvenance(exporter map[string]string, all map[string]build.Provenance, mode string) error {
	more := map[string]string{}
	for platform, p := range all {
		raw, err := metadataProvenance(p, mode == "max")
		if err != nil {
			return fmt.Errorf("provenance for --metadata-file: %w", err)
		}
		key := "buildx.build.provenance"
		if platform != "" {
			key += "/" + platform
		}
		more[key] = base64.StdEncoding.EncodeToString(raw)
	}
	maps.Copy(exporter, more)
	return nil
}

func metadataProvenance(p build.Provenance, whole bool) ([]byte, error) {
	old := new(provenancetypes.ProvenancePredicateSLSA02)
	if p.PredicateType == "https://slsa.dev/provenance/v1" {
		var one provenancetypes.ProvenancePredicateSLSA1
		if err := json.Unmarshal(p.Predicate, &one); err != nil {
			return nil, err
		}
		old = one.ConvertToSLSA02()
	} else if err := json.Unmarshal(p.Predicate, old); err != nil {
		return nil, err
	}
	if !whole {
		old.BuildConfig, old.Metadata = nil, nil
	}
	return json.Marshal(old)
}
