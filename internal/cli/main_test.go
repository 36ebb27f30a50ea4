package cli

import (
	"os"
	"testing"
	"time"
)

// asKist is the variable that makes the test's program be kist.
const asKist = "KIST_TEST_AS_KIST"

// TestMain shows times as UTC, before anything runs that reads the clock.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	if os.Getenv(asKist) != "" {
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}
