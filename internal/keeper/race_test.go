//go:build race

package keeper

// raceDetector says that memory is not what it is without it.
const raceDetector = true
