package cli

import (
	"os"
	"testing"
	"time"
)

// TestMain shows times as UTC, before anything runs that reads the clock.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}
