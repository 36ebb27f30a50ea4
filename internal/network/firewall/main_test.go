package firewall

import (
	"testing"

	"github.com/kistdev/kist/internal/testbed/suite"
)

func TestMain(m *testing.M) { suite.InNetwork(m) }
