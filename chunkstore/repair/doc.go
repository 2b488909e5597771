// Package repair mends repositories: the index from the packs ([Index]), packs from what of them still decrypts
// ([Packs]), snapshots by leaving out what cannot be restored ([Snapshots]), and any file from another copy of the same
// repository ([From]).
//
// Nothing is made worse. What is new is durable before anything old goes, so that an interrupted repair leaves readable
// everything that was, and can be repeated. Damaged packs and unreadable index files are set aside, not deleted, where
// the files can do that; see [repository.Repository.SetAside]. A file is called damaged when it was read wrongly twice.
//
// The order in which to go: From, if there is another copy, then Index, Packs for each pack that a check names, and
// Snapshots last: what it leaves out, the new snapshots do not have.
//
// Nobody else may write to the repository meanwhile: open it with an exclusive lock. The repository that is passed knows
// the repaired index afterwards.
package repair
