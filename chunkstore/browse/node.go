package browse

import (
	"bytes"
	"slices"

	"dengbei/chunkstore/repository"
)

// sameNode reports whether two nodes of one name say the same, content and directory included. The order of extended
// attributes does not matter.
func sameNode(a, b *repository.Node) bool {
	return sameMetadata(a, b) && slices.Equal(a.Content, b.Content) && sameID(a.Subtree, b.Subtree)
}

func sameMetadata(a, b *repository.Node) bool {
	return a.Type == b.Type && a.Mode == b.Mode &&
		a.ModTime.Equal(b.ModTime) && a.AccessTime.Equal(b.AccessTime) && a.ChangeTime.Equal(b.ChangeTime) &&
		a.UID == b.UID && a.GID == b.GID && a.User == b.User && a.Group == b.Group && a.Inode == b.Inode && a.DeviceID == b.DeviceID &&
		a.SizeBytes == b.SizeBytes && a.Links == b.Links && a.LinkTarget == b.LinkTarget && a.Device == b.Device &&
		sameXattrs(a.Xattrs, b.Xattrs)
}

func sameXattrs(a, b []repository.Xattr) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.ContainsFunc(b, func(y repository.Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) }) {
			return false
		}
	}
	return true
}

func sameID(a, b *repository.ID) bool {
	return a == b || a != nil && b != nil && *a == *b
}
