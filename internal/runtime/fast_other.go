//go:build (!amd64 && !arm64) || race

package runtime

import "errors"

const haveFast = false

func runFast(*image, []slot) (int, error) { return 0, errors.ErrUnsupported }
