package cli

import "testing"

func TestMetadataProvenance(t *testing.T) {
	for wish, want := range map[string]string{"": "min", "min": "min", "max": "max", "disabled": "", "false": "", "0": "", "true": "min", "nonsense": "min"} {
		if got := metadataProvenance(wish); got != want {
			t.Errorf("%q: %q, want %q", wish, got, want)
		}
	}
}
