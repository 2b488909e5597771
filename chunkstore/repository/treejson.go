package repository

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// minNodeBytes is less than any node takes: the fields that are never left out take 170. What is smaller on average
	// was made to need many times its size in memory.
	minNodeBytes = 100

	// minObjectBytes is less than an extended attribute takes, the smallest object in a tree or an index.
	minObjectBytes = 16

	// freeBytes is how much JSON need not keep to these sizes.
	freeBytes = 64 << 10
)

// checkObjects refuses JSON that is nothing but small objects, before it is decoded.
func checkObjects(b []byte) error {
	if bytes.Count(b, []byte("{"))*minObjectBytes > len(b)+freeBytes {
		return fmt.Errorf("objects of less than %d bytes: %w", minObjectBytes, ErrTooLarge)
	}
	return nil
}

// decodeNodes reads the nodes of a tree one after another and gives up before a hostile one fills the memory.
func decodeNodes(b []byte) ([]Node, error) {
	if err := checkObjects(b); err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("tree: %w: %w", err, ErrUnreadable)
	}
	nodes := []Node{}
	if t == json.Delim('{') {
		for err == nil && d.More() {
			nodes, err = decodeField(d, nodes)
		}
		if err == nil {
			_, err = d.Token()
		}
	} else if t != nil {
		err = errors.New("no object")
	}
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nodes, nil
		}
		err = errors.Join(err, errors.New("something follows it"))
	}
	if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnreadable) {
		return nil, fmt.Errorf("tree: %w", err)
	}
	return nil, fmt.Errorf("tree: %w: %w", err, ErrUnreadable)
}

// decodeField reads one field of a tree; all but the nodes are passed over.
func decodeField(d *json.Decoder, nodes []Node) ([]Node, error) {
	key, err := d.Token()
	if err != nil {
		return nil, err
	}
	if name, _ := key.(string); !strings.EqualFold(name, "nodes") {
		var other json.RawMessage
		return nodes, d.Decode(&other)
	}
	t, err := d.Token()
	if err != nil || t == nil {
		return nodes, err
	}
	if t != json.Delim('[') {
		return nil, errors.New("nodes are no list")
	}
	for nodes = nodes[:0]; d.More(); {
		var j nodeJSON
		if err := d.Decode(&j); err != nil {
			return nil, err
		}
		n, err := j.node()
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
		if int64(len(nodes))*minNodeBytes > d.InputOffset()+freeBytes {
			return nil, fmt.Errorf("nodes of less than %d bytes: %w", minNodeBytes, ErrTooLarge)
		}
	}
	_, err = d.Token()
	return nodes, err
}
