// Says what encoding/json makes of a body: a frame in, a frame out (tests/readers.py has the format).
//
// The first line of an answer is what a map holds. The others are what structs hold, one field a line, as a
// server has them that was written with the types of the MCP, A2A or model API: encoding/json takes a member
// for a field in any case, and the last one counts.
//
// `json-reader serve SOCKET` is such a server, for the tests of the known bypasses: it says at /seen how many
// requests for /mcp came in, and which tools ran.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"reflect"
	"sort"
	"strings"
	"sync"
)

type mcpMessage struct {
	JSONRPC *string    `json:"jsonrpc"`
	ID      any        `json:"id"`
	Method  *string    `json:"method"`
	Params  *mcpParams `json:"params"`
	Result  any        `json:"result"`
	Error   *rpcError  `json:"error"`
}

type rpcError struct {
	Code    *int64  `json:"code"`
	Message *string `json:"message"`
	Data    any     `json:"data"`
}

type mcpParams struct {
	Meta            *mcpMeta       `json:"_meta"`
	Name            *string        `json:"name"`
	URI             *string        `json:"uri"`
	Arguments       map[string]any `json:"arguments"`
	Cursor          *string        `json:"cursor"`
	Ref             *mcpRef        `json:"ref"`
	Argument        *mcpArgument   `json:"argument"`
	Task            map[string]any `json:"task"`
	TaskID          *string        `json:"taskId"`
	ProtocolVersion *string        `json:"protocolVersion"`
	Level           *string        `json:"level"`
	RequestID       any            `json:"requestId"`
	ProgressToken   any            `json:"progressToken"`
	InputResponses  map[string]any `json:"inputResponses"`
	RequestState    *string        `json:"requestState"`
	Notifications   *mcpListen     `json:"notifications"`
}

type mcpMeta struct {
	ProgressToken any     `json:"progressToken"`
	Version       *string `json:"io.modelcontextprotocol/protocolVersion"`
	Capabilities  any     `json:"io.modelcontextprotocol/clientCapabilities"`
	Task          any     `json:"io.modelcontextprotocol/related-task"`
}

type mcpRef struct {
	Type *string `json:"type"`
	Name *string `json:"name"`
	URI  *string `json:"uri"`
}

type mcpArgument struct {
	Name  *string `json:"name"`
	Value *string `json:"value"`
}

type mcpListen struct {
	Tools     *bool    `json:"toolsListChanged"`
	Prompts   *bool    `json:"promptsListChanged"`
	Resources *bool    `json:"resourcesListChanged"`
	URIs      []string `json:"resourceSubscriptions"`
}

type a2aMessage struct {
	JSONRPC *string    `json:"jsonrpc"`
	ID      any        `json:"id"`
	Method  *string    `json:"method"`
	Params  *a2aParams `json:"params"`
}

type a2aParams struct {
	Tenant  *string      `json:"tenant"`
	ID      *string      `json:"id"`
	TaskID  *string      `json:"taskId"`
	URL     *string      `json:"url"`
	Message *a2aSent     `json:"message"`
	Config  *a2aSettings `json:"configuration"`
	Push    any          `json:"pushNotificationConfig"`
	History *int64       `json:"historyLength"`
}

type a2aSent struct {
	ID      *string          `json:"messageId"`
	Task    *string          `json:"taskId"`
	Context *string          `json:"contextId"`
	Role    *string          `json:"role"`
	Parts   []map[string]any `json:"parts"`
}

type a2aSettings struct {
	Push    any    `json:"pushNotificationConfig"`
	TaskCfg any    `json:"taskPushNotificationConfig"`
	History *int64 `json:"historyLength"`
}

type llmRequest struct {
	Model               *string     `json:"model"`
	Stream              *bool       `json:"stream"`
	N                   *int64      `json:"n"`
	MaxTokens           *int64      `json:"max_tokens"`
	MaxCompletionTokens *int64      `json:"max_completion_tokens"`
	MaxOutputTokens     *int64      `json:"max_output_tokens"`
	MaxToolCalls        *int64      `json:"max_tool_calls"`
	Store               *bool       `json:"store"`
	Background          *bool       `json:"background"`
	ServiceTier         *string     `json:"service_tier"`
	Tools               []llmTool   `json:"tools"`
	Servers             []llmServer `json:"mcp_servers"`
	Functions           []llmNamed  `json:"functions"`
	Thinking            *struct {
		Type   any    `json:"type"`
		Budget *int64 `json:"budget_tokens"`
	} `json:"thinking"`
	Container *llmContainer `json:"container"`
	Messages  any           `json:"messages"`
	Input     any           `json:"input"`
}

type llmContainer struct {
	Skills any `json:"skills"`
}

// UnmarshalJSON takes the id of a container in its place, too.
func (container *llmContainer) UnmarshalJSON(data []byte) error {
	type plain llmContainer
	if data[0] == '"' {
		return nil
	}
	return json.Unmarshal(data, (*plain)(container))
}

type llmTool struct {
	Type      *string   `json:"type"`
	Name      *string   `json:"name"`
	Function  *llmNamed `json:"function"`
	Custom    *llmNamed `json:"custom"`
	ServerURL *string   `json:"server_url"`
	Model     *string   `json:"model"`
	Tools     []llmTool `json:"tools"`
}

type llmNamed struct {
	Name *string `json:"name"`
}

type llmServer struct {
	Type *string `json:"type"`
	URL  *string `json:"url"`
	Name *string `json:"name"`
}

func text(value string) string { return `"` + hex.EncodeToString([]byte(value)) }

func number(value float64) string {
	if value == 0 {
		return "#0000000000000000" // -0 is 0
	}
	return fmt.Sprintf("#%016x", math.Float64bits(value))
}

func dump(value any) string {
	switch read := value.(type) {
	case nil:
		return "~"
	case bool:
		if read {
			return "t"
		}
		return "f"
	case float64:
		return number(read)
	case string:
		return text(read)
	case []any:
		parts := make([]string, len(read))
		for at, part := range read {
			parts[at] = dump(part)
		}
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		parts := make([]string, 0, len(read))
		for name, member := range read {
			parts = append(parts, text(name)+":"+dump(member))
		}
		sort.Strings(parts)
		return "{" + strings.Join(parts, ",") + "}"
	}
	return fmt.Sprintf("error %T", value)
}

// fields writes each field that is set as `path<TAB>value`; the names in a path are separated by spaces.
func fields(path string, value reflect.Value, lines *[]string) {
	switch value.Kind() {
	case reflect.Pointer:
		if !value.IsNil() {
			fields(path, value.Elem(), lines)
		}
	case reflect.Struct:
		for at := 0; at < value.NumField(); at++ {
			fields(path+" "+value.Type().Field(at).Tag.Get("json"), value.Field(at), lines)
		}
	case reflect.Slice:
		for at := 0; at < value.Len(); at++ {
			fields(fmt.Sprintf("%s %d", path, at), value.Index(at), lines)
		}
	case reflect.Interface, reflect.Map:
		if !value.IsNil() {
			*lines = append(*lines, path[1:]+"\t"+dump(value.Interface()))
		}
	case reflect.String:
		*lines = append(*lines, path[1:]+"\t"+text(value.String()))
	case reflect.Bool:
		*lines = append(*lines, path[1:]+"\t"+dump(value.Bool()))
	case reflect.Int64:
		*lines = append(*lines, path[1:]+"\t"+number(float64(value.Int())))
	}
}

func read(frame []byte) string {
	body := frame[1:]
	var whole any
	if err := json.Unmarshal(body, &whole); err != nil {
		return "error " + err.Error()
	}
	target := map[byte]any{'m': &mcpMessage{}, 'a': &a2aMessage{}, 'l': &llmRequest{}}[frame[0]]
	lines := []string{dump(whole)}
	if err := json.Unmarshal(body, target); err != nil {
		return lines[0] + "\nerror " + err.Error()
	}
	fields("", reflect.ValueOf(target), &lines)
	return strings.Join(lines, "\n")
}

type seen struct {
	mutex    sync.Mutex
	Requests int      `json:"requests"`
	Ran      []string `json:"ran"`
}

func (seen *seen) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	seen.mutex.Lock()
	defer seen.mutex.Unlock()
	out.Header().Set("Content-Type", "application/json")
	if request.URL.Path == "/seen" {
		_ = json.NewEncoder(out).Encode(seen)
		return
	}
	seen.Requests++
	var message mcpMessage
	if err := json.NewDecoder(request.Body).Decode(&message); err != nil || request.URL.Path != "/mcp" {
		http.Error(out, "not read", http.StatusBadRequest)
		return
	}
	params := message.Params
	if message.Method != nil && *message.Method == "tools/call" && params != nil && params.Name != nil {
		seen.Ran = append(seen.Ran, *params.Name)
	}
	_ = json.NewEncoder(out).Encode(map[string]any{"jsonrpc": "2.0", "id": message.ID, "result": map[string]any{}})
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		listener, err := net.Listen("unix", os.Args[2])
		if err == nil {
			err = http.Serve(listener, &seen{Ran: []string{}})
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); err != nil {
			return
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(in, frame); err != nil {
			return
		}
		answer := read(frame)
		_ = binary.Write(out, binary.BigEndian, uint32(len(answer)))
		_, _ = out.WriteString(answer)
		_ = out.Flush()
	}
}
