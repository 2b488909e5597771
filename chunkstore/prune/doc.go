// Package prune gives back the space of what no snapshot needs any more.
//
// It works on whole packs and in two phases, each any number of runs of [Run]. Marking: a pack of which no snapshot needs
// a blob moves, in the index, from the packs in use to the packs to delete, with the time. Sweeping: a pack that has been
// marked for the grace time, and that still nothing needs, is removed. What a snapshot needs again meanwhile is taken
// back. Packs of which a part is needed are left alone unless [Options.Repack] asks for them to be rewritten. Stock restic
// takes a marked pack for one that no index names: it passes its check, and its own prune removes it.
//
// # What is safe
//
// Run removes nothing before it has read every snapshot, every tree and every index file, and has found each needed blob
// in a pack that is there and as long as it must be; otherwise it gives [ErrUnsafe]. A pack that is in use by any index
// file is in use, whatever another one says of it: the change of an index is the writing of new files, then the removal of
// old ones, and between the two both count. The order is: new packs, index of those, index with marks, old index; later
// the pack, then its mark. A run that was stopped at any point leaves a sound repository, and the next one goes on.
//
// A backup that runs beside it, without a lock that keeps them apart, is safe if the time from reading the index to
// saving its snapshot is shorter than the grace. Let it count on a pack P that nothing else needs:
//
//   - It read the index before P was marked. Its snapshot is there when the grace ends, the sweep reads it and takes P
//     back. From its snapshot until then readers miss P; so Run looks for new snapshots again once it has marked, and
//     any later run takes P back at once.
//   - It read the index after P was marked. Then it does not find P and stores what it needs anew.
//   - It looks for packs that no index names, to take them up. A marked pack is named, and it is removed while it still
//     is.
//   - It has stored P and not yet written the index of it. P is marked as any pack that nothing needs; that index puts it
//     in use again.
//   - It reads the index while that is being replaced: it lists the files again when one of them has vanished.
//   - Snapshots are listed before the index is read: whatever a listed snapshot needs is in that index.
//
// Marks carry the time of this machine's clock as the index was written. A mark from the future, or without a time, says
// that a clock is wrong: the grace then begins anew. A clock that leaps ahead is the one thing that shortens the grace;
// whoever holds the exclusive lock of the repository is safe from that too. With [Options.NoGrace] there is no second run
// and no grace, so everything rests on that lock.
//
// Runs exclude each other by that lock as well: two at a time may take back and remove the same pack.
//
// # Costs
//
// Each tree is read once. Memory is 15 bytes a needed blob and about 100 bytes a pack, whatever the number of snapshots;
// index files pass one at a time, two or three times over.
package prune
