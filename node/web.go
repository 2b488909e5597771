package node

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	xtlog "golang.org/x/mod/sumdb/tlog"

	"dengbei/registry"
)

// webHandler serves what anybody may see: whether the node is well, and the public log (C2SP tlog-tiles). A leaf says
// nothing about content.
func (n *Node) webHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", n.serveHealth)
	mux.HandleFunc("GET /log/checkpoint", n.serveCheckpoint)
	mux.HandleFunc("GET /log/tile/", n.serveTile)
	return mux
}

func (n *Node) serveHealth(w http.ResponseWriter, r *http.Request) {
	leader := n.raft.Leader()
	w.Header().Set("Content-Type", "application/json")
	if leader == "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The client may be gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"centre": n.serverID, "quorum": leader != "", "log_size": n.ledger.state().Size(),
	})
}

func (n *Node) serveCheckpoint(w http.ResponseWriter, r *http.Request) {
	cp, err := n.ledger.state().LatestCheckpoint()
	if errors.Is(err, registry.ErrNotFound) {
		http.Error(w, "no checkpoint published yet", http.StatusNotFound)
		return
	}
	if err != nil {
		n.log.Error("serve checkpoint", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(cp.GetNote())
}

// serveTile answers hash tiles and entry bundles of the published log.
func (n *Node) serveTile(w http.ResponseWriter, r *http.Request) {
	state := n.ledger.state()
	cp, err := state.LatestCheckpoint()
	if err != nil {
		http.NotFound(w, r)
		return
	}
	tile, err := parseTilePath(strings.TrimPrefix(r.URL.Path, "/log/"))
	if err != nil {
		http.Error(w, "malformed tile path", http.StatusBadRequest)
		return
	}
	var data []byte
	if tile.L < 0 {
		data, err = state.EntryBundle(cp.GetSize(), uint64(tile.N), tile.W)
	} else {
		data, err = state.TileData(cp.GetSize(), tile)
	}
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(data)
}

// parseTilePath reads "tile/<L>/<N>[.p/<W>]" and "tile/entries/<N>[.p/<W>]" (C2SP tlog-tiles).
func parseTilePath(path string) (xtlog.Tile, error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return xtlog.Tile{}, errors.New("want tile/")
	}
	if data, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + data
	}
	// x/mod knows the same paths with the tile height in front.
	return xtlog.ParseTilePath("tile/8/" + rest)
}

// maxWebConns bounds the connections of the web port, which anybody may open: what they take must not be missing where
// Raft and peers need it.
const maxWebConns = 512
