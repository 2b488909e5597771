package repository

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The types of nodes.
const (
	TypeFile       = "file"
	TypeDir        = "dir"
	TypeSymlink    = "symlink"
	TypeDevice     = "dev" // of blocks
	TypeCharDevice = "chardev"
	TypeFifo       = "fifo"
	TypeSocket     = "socket"
)

// Node is one entry of a directory.
type Node struct {
	Name       string // raw bytes; see CheckName
	Type       string
	Mode       fs.FileMode
	ModTime    time.Time
	AccessTime time.Time
	ChangeTime time.Time
	UID, GID   uint32
	User       string
	Group      string
	Inode      uint64
	DeviceID   uint64
	SizeBytes  uint64
	Links      uint64
	LinkTarget string // raw bytes, for symlinks
	Xattrs     []Xattr
	Device     uint64
	Content    []ID // of files, in order; nil for others
	Subtree    *ID  // of directories
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// nodeJSON is a Node as trees hold it. The order of fields is stock restic's: trees must be equal byte for byte.
type nodeJSON struct {
	Name       string      `json:"name"`
	Type       string      `json:"type"`
	Mode       fs.FileMode `json:"mode,omitempty"`
	ModTime    time.Time   `json:"mtime"`
	AccessTime time.Time   `json:"atime"`
	ChangeTime time.Time   `json:"ctime"`
	UID        uint32      `json:"uid"`
	GID        uint32      `json:"gid"`
	User       string      `json:"user,omitempty"`
	Group      string      `json:"group,omitempty"`
	Inode      uint64      `json:"inode,omitempty"`
	DeviceID   uint64      `json:"device_id,omitempty"`
	Size       uint64      `json:"size,omitempty"`
	Links      uint64      `json:"links,omitempty"`
	LinkTarget string      `json:"linktarget,omitempty"`
	LinkRaw    []byte      `json:"linktarget_raw,omitempty"`
	Xattrs     []Xattr     `json:"extended_attributes,omitempty"`
	Device     uint64      `json:"device,omitempty"`
	Content    []ID        `json:"content"`
	Subtree    *ID         `json:"subtree,omitempty"`
}

// treeJSON is a Tree as its blob holds it.
type treeJSON struct {
	Nodes []nodeJSON `json:"nodes"`
}

func (n *Node) json() nodeJSON {
	quoted := strconv.Quote(n.Name)
	j := nodeJSON{
		Name: quoted[1 : len(quoted)-1], Type: n.Type, Mode: n.Mode,
		ModTime: jsonTime(n.ModTime), AccessTime: jsonTime(n.AccessTime), ChangeTime: jsonTime(n.ChangeTime),
		UID: n.UID, GID: n.GID, User: n.User, Group: n.Group, Inode: n.Inode, DeviceID: n.DeviceID,
		Size: n.SizeBytes, Links: n.Links, LinkTarget: n.LinkTarget, Xattrs: n.Xattrs, Device: n.Device,
		Content: n.Content, Subtree: n.Subtree,
	}
	if !utf8.ValidString(n.LinkTarget) {
		j.LinkRaw = []byte(n.LinkTarget)
	}
	return j
}

func (j *nodeJSON) node() (Node, error) {
	name, err := strconv.Unquote(`"` + j.Name + `"`)
	if err != nil {
		return Node{}, fmt.Errorf("node name %q: %w", j.Name, ErrUnreadable)
	}
	n := Node{
		Name: name, Type: j.Type, Mode: j.Mode, ModTime: j.ModTime, AccessTime: j.AccessTime, ChangeTime: j.ChangeTime,
		UID: j.UID, GID: j.GID, User: j.User, Group: j.Group, Inode: j.Inode, DeviceID: j.DeviceID,
		SizeBytes: j.Size, Links: j.Links, LinkTarget: j.LinkTarget, Xattrs: j.Xattrs, Device: j.Device,
		Content: j.Content, Subtree: j.Subtree,
	}
	if len(j.LinkRaw) > 0 {
		n.LinkTarget = string(j.LinkRaw)
	}
	return n, nil
}

// jsonTime moves an instant into the years that RFC 3339 can write.
func jsonTime(t time.Time) time.Time {
	switch y := t.Year(); {
	case y < 0:
		return t.AddDate(-y, 0, 0)
	case y > 9999:
		return t.AddDate(-(y - 9999), 0, 0)
	default:
		return t
	}
}

// CheckName gives [ErrName] for a name that is not a plain one inside its directory: empty, "." or "..", or with a
// slash or a NUL byte in it.
func (n *Node) CheckName() error {
	if n.Name == "" || n.Name == "." || n.Name == ".." || strings.ContainsAny(n.Name, "/\x00") {
		return fmt.Errorf("%q: %w", n.Name, ErrName)
	}
	return nil
}

// Tree is one directory: its nodes ascending by the bytes of their names, without duplicates.
type Tree struct {
	Nodes []Node
}

// Encode returns the content of the tree's blob, equal to stock restic's for the same nodes.
func (t *Tree) Encode() ([]byte, error) {
	if err := t.checkOrder(); err != nil {
		return nil, err
	}
	j := treeJSON{Nodes: make([]nodeJSON, len(t.Nodes))}
	for i := range t.Nodes {
		j.Nodes[i] = t.Nodes[i].json()
	}
	b, err := json.Marshal(j)
	return append(b, '\n'), err
}

// DecodeTree reads a tree. Names are returned as they are stored: check each with [Node.CheckName] before it reaches a
// file system.
func DecodeTree(b []byte) (*Tree, error) {
	nodes, err := decodeNodes(b)
	if err != nil {
		return nil, err
	}
	t := &Tree{Nodes: nodes}
	return t, t.checkOrder()
}

// checkOrder also keeps a name from being a symlink and a directory at once.
func (t *Tree) checkOrder() error {
	for i := 1; i < len(t.Nodes); i++ {
		if t.Nodes[i-1].Name >= t.Nodes[i].Name {
			return fmt.Errorf("tree: %q stands before %q: %w", t.Nodes[i-1].Name, t.Nodes[i].Name, ErrUnreadable)
		}
	}
	return nil
}

// Find returns the node of that name, or nil.
func (t *Tree) Find(name string) *Node {
	i, ok := slices.BinarySearchFunc(t.Nodes, name, func(n Node, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		return nil
	}
	return &t.Nodes[i]
}

// LoadTree reads a directory.
func (r *Repository) LoadTree(ctx context.Context, id ID) (*Tree, error) {
	b, err := r.LoadBlob(ctx, TreeBlob, id, nil)
	if err != nil {
		return nil, err
	}
	t, err := DecodeTree(b)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	return t, nil
}

// SaveTree stores a directory; see [Session.SaveBlob].
func (s *Session) SaveTree(ctx context.Context, t *Tree) (ID, error) {
	b, err := t.Encode()
	if err != nil {
		return ID{}, err
	}
	id, _, err := s.SaveBlob(ctx, TreeBlob, b)
	return id, err
}
