// Package move brings images, volumes and containers to another daemon: only what that one lacks, without a registry.
//
// # The conversation
//
// Two daemons talk over one connection, which the command holds. The sender leads.
//
//	sender                                  receiver
//	hello ------------------------------->
//	      <------------------------------- hello      versions, platform, room on the disk
//	image: configuration, layers -------->
//	      <------------------------------- wants      for each layer: have, blob, or tar
//	blob from byte n, or a tar ----------->           the next layer, and so on
//	image done --------------------------->           named there
//	volume, a tar ------------------------>
//	create: a container's configuration,
//	        the tar of its changes ------->
//	      <------------------------------- done       it is there, and runs
//
// A tar is what a layer, a volume or the changes of a container are sent as. If the receiver has nothing that could be in it, it
// is sent once, inline. Else the sender first sends its recipe (package chunk), the receiver answers which pieces it lacks, and
// gets those. It finds pieces in its layers, in a volume of the same name, and in what earlier attempts left.
//
// Everything that was received is kept aside (a pack) until the move has succeeded: a move that was broken off goes on where it
// was. What is seen of it, a name, a volume, a container, comes last and whole.
package move
