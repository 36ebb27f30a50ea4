package cli

import "testing"

func TestFitTable(t *testing.T) {
	const table = "CONTAINER ID\tIMAGE\tCOMMAND\tNAMES\n0123456789ab\tregistry.example/team/application:1.2.3\t\"a command that is long\"\tweb\n"
	for _, tc := range []struct {
		name string
		cols int
		want string
	}{
		{"wide enough", 120, table},
		{"narrower", 80, "CONTAINER ID\tIMAGE\tCOMMAND\tNAMES\n0123456789ab\tregistry.example/team/applica…\t\"a command that is long\"\tweb\n"},
		{"narrow", 60, "CONTAINER ID\tIMAGE\tCOMMAND\tNAMES\n0123456789ab\tregistry.example…\t\"a command that …\tweb\n"},
		{"hopeless", 20, table},
	} {
		if got := fitTable(table, tc.cols); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
