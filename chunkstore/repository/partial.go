package repository

import "slices"

// PartialTag marks the snapshot of a backup that was cut off. It lacks files; it serves as a parent for the next backup.
const PartialTag = "partial"

// Partial reports whether s carries [PartialTag]. Such a snapshot is never "latest" and never counts as a kept one.
func (s *Snapshot) Partial() bool { return slices.Contains(s.Tags, PartialTag) }
