// Package volume keeps named and anonymous volumes: directories below the data root that outlive containers.
//
// A volume is the directory NAME/_data with NAME/volume.json beside it. It appears and disappears by a rename, so that a
// crash leaves either a whole volume or a directory with a name that no volume can have, which Open removes.
//
// Who uses a volume is known in memory only: the engine says so again for every container when it starts.
package volume
