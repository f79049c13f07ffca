# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rowcast_global_optspecs
    string join \n listen= allow-anonymous jwt-key= jwt-audience= jwt-issuer= allowed-origin= tls-cert= tls-key= tls-handshake-seconds= redirect-listen= data-dir= max-tables= database-url= table= hide= no-migrate no-products cores= shards= gather-ms= last-values-bytes= wildcard-rows= slow-consumer= send-queue-frames= send-queue-bytes= max-connections= max-connections-per-address= max-http-sockets= max-http-sockets-per-address= handshakes-per-second= header-timeout-seconds= body-timeout-seconds= write-timeout-seconds= max-header-bytes= max-body-bytes= max-bodies-bytes= max-answers-bytes= http2-max-streams= max-message-bytes= commands-per-second= ping-seconds= max-subscriptions= drain-seconds= log-format= h/help V/version
end

function __fish_rowcast_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rowcast_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rowcast_using_subcommand
    set -l cmd (__fish_rowcast_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rowcast -n "__fish_rowcast_needs_command" -l listen -d 'Address and port to listen on; port 0 takes a free one' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l jwt-key -d 'Key that tokens are signed with: a secret for HS256 (at least 32 bytes), a public key in PEM (RSA, EC P-256 or P-384, Ed25519), or a JWKS. Of several (repeat it, or separate them by commas) a token\'s kid chooses: the kid in the JWKS, or the file\'s name without its extension. Read again when one changes, and on SIGHUP' -r -F
complete -c rowcast -n "__fish_rowcast_needs_command" -l jwt-audience -d 'What a token must have in its claim aud' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l jwt-issuer -d 'What a token must have as its claim iss' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l allowed-origin -d 'Origin whose pages may use the server beside its own: a scheme, a host, and a port where it is not the usual one. null (sandboxed frames and local files, which any site can make) and file:// (some devices) are taken to the letter, * is every origin. Several: repeat it, or separate them by commas' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l tls-cert -d 'Certificate (PEM), followed by its issuers\': serve https and wss. Read again when it changes, and on SIGHUP' -r -F
complete -c rowcast -n "__fish_rowcast_needs_command" -l tls-key -d 'The certificate\'s private key (PEM)' -r -F
complete -c rowcast -n "__fish_rowcast_needs_command" -l tls-handshake-seconds -d 'Seconds that a client has for its TLS handshake' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l redirect-listen -d 'Listen here too, without TLS, and send every request on to https' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l data-dir -d 'Directory of the embedded store, which is used when no database is given' -r -F
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-tables -d 'Tables of the embedded store, products among them: a row under a new name makes another as long as there are fewer' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l database-url -d 'Postgres, as postgres://user:password@host:port/name?sslmode=…; `DATABASE_URL` does too' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l table -d 'Table of the database, beside products, whose rows are cast; may be given several times, and as a list with commas. Its key is its primary key unless a column is named that is NOT NULL and unique, as in shop.customers:customer_no. Names are as in SQL, double quotes included. Postgres adds a column `rowcast_version` and three triggers to it' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l hide -d 'Column of a table that never leaves the server, as in users.password_hash: neither by change nor by read nor in the answer of a write; may be given several times, and as a list with commas. Not the key. It can still be written' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l cores -d 'Threads that hold the connections and fan out [default: one per processor]' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l shards -d 'Slices of the products, each owned by one core [default: one per core]' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l gather-ms -d 'Milliseconds that a core without time to spare lets changes gather at most, to deliver more of them with each write. Raises what an overloaded server delivers, and how late. 0 delivers at once whatever the load' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l last-values-bytes -d 'Bytes of last values that all shards remember together: of each product that a reader asked for the newest change or row, so that the next one is answered without the store. Above it, what is used least is forgotten and read again when it is asked for' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l wildcard-rows -d 'The most rows that the store may have for a reader to subscribe to "*", which is all of them: their ids and versions are kept in memory meanwhile, about 90 bytes each. While the table has grown above it, whoever is subscribed stays, and further readers are refused' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l slow-consumer -d 'What gives way when a reader is too slow' -r -f -a "conflate\t'The newest state of each row comes as the reader drains, older changes are skipped'
drop\t'The oldest change that waits is dropped'
disconnect\t'The connection is closed with code 1013'"
complete -c rowcast -n "__fish_rowcast_needs_command" -l send-queue-frames -d 'Changes that may wait for one socket' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l send-queue-bytes -d 'Bytes of changes that may wait for one socket' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-connections -d 'WebSockets and event streams at once; one more is answered 503' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-connections-per-address -d 'WebSockets at once from one address (IPv6: from one /64); one more is answered 503. 0 sets no limit, as is right behind a proxy, from whose address all come' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-http-sockets -d 'Sockets at once that are not WebSockets: those with requests, and those in their handshake. One more is answered 503 and closed' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-http-sockets-per-address -d 'Of those, sockets from one address (IPv6: from one /64); 0 sets no limit' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l handshakes-per-second -d 'WebSockets that may open in a second, and as many at once after a quiet second; one more is answered 503 and told when to come back. 0 sets no limit' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l header-timeout-seconds -d 'Seconds in which the head of a request must arrive; also how long a socket may be silent between two requests' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l body-timeout-seconds -d 'Seconds in which the body of a request must arrive; 408 then' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l write-timeout-seconds -d 'Seconds in which a client must take 16 KiB of an answer, or the rest of it; its request is cut otherwise' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-header-bytes -d 'Bytes of a request\'s first line and headers; 431 above' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-body-bytes -d 'Bytes of a request\'s body; 413 above' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-bodies-bytes -d 'Bytes that all bodies hold together, from their arrival until their request is answered; one more is answered 503. An HTTP/2 connection may hold a quarter of them' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-answers-bytes -d 'Bytes of rows that all answers hold together while their readers take them (64 KiB each, or one row); one more waits, and is answered 503 after 2 seconds. An HTTP/2 connection may hold a quarter of them' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l http2-max-streams -d 'Requests and WebSockets at once on one HTTP/2 connection; what is above is refused. Each may make the server keep 48 KiB' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-message-bytes -d 'Bytes of a message from a WebSocket; closed with 1009 above. The page sends up to 20,000' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l commands-per-second -d 'Units of work that one WebSocket may ask for in a second; what is above waits in the socket. A frame is a unit: a command, a ping, a pong, a fragment of any length. So is each further 4 KiB of a message. 0 sets no limit' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l ping-seconds -d 'Seconds of silence after which a WebSocket is pinged; one that is silent for three times as long is closed with 1008. An event stream is sent a comment, and closed if its socket takes nothing for three times as long. Keep it below what proxies on the way allow an idle connection (often 30 or 60 seconds)' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l max-subscriptions -d 'Rows that one connection may subscribe to' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l drain-seconds -d 'Seconds over which a server that stops closes its WebSockets; 0 closes all at once' -r
complete -c rowcast -n "__fish_rowcast_needs_command" -l log-format -d 'How log lines are written to standard error' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c rowcast -n "__fish_rowcast_needs_command" -l allow-anonymous -d 'Listen on an address that other machines reach although there is no --jwt-key, so that anybody there may read and write'
complete -c rowcast -n "__fish_rowcast_needs_command" -l no-migrate -d 'Change nothing in the database at the start: where a migration, or a part of a table, is missing, say which `rowcast migrate` makes it, and end. For a server whose role may not'
complete -c rowcast -n "__fish_rowcast_needs_command" -l no-products -d 'Neither make nor serve the built-in table products, which is otherwise there without being named. A table of yours with that name is cast by --table products, and is then one like any other'
complete -c rowcast -n "__fish_rowcast_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rowcast -n "__fish_rowcast_needs_command" -s V -l version -d 'Print version'
complete -c rowcast -n "__fish_rowcast_needs_command" -f -a "serve" -d 'Serve the page, the REST API and the WebSockets (this is the default)'
complete -c rowcast -n "__fish_rowcast_needs_command" -f -a "migrate" -d 'Bring a Postgres database\'s tables and triggers up to date, and exit; `serve` does it too'
complete -c rowcast -n "__fish_rowcast_needs_command" -f -a "unmigrate" -d 'Take away again what `migrate --table` installed on tables of a Postgres database'
complete -c rowcast -n "__fish_rowcast_needs_command" -f -a "cert" -d 'Make a certificate for development: cert.pem and key.pem, signed by nobody but itself'
complete -c rowcast -n "__fish_rowcast_needs_command" -f -a "watch" -d 'Show products as they are and as they change, of a server that runs'
complete -c rowcast -n "__fish_rowcast_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l listen -d 'Address and port to listen on; port 0 takes a free one' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l jwt-key -d 'Key that tokens are signed with: a secret for HS256 (at least 32 bytes), a public key in PEM (RSA, EC P-256 or P-384, Ed25519), or a JWKS. Of several (repeat it, or separate them by commas) a token\'s kid chooses: the kid in the JWKS, or the file\'s name without its extension. Read again when one changes, and on SIGHUP' -r -F
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l jwt-audience -d 'What a token must have in its claim aud' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l jwt-issuer -d 'What a token must have as its claim iss' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l allowed-origin -d 'Origin whose pages may use the server beside its own: a scheme, a host, and a port where it is not the usual one. null (sandboxed frames and local files, which any site can make) and file:// (some devices) are taken to the letter, * is every origin. Several: repeat it, or separate them by commas' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l tls-cert -d 'Certificate (PEM), followed by its issuers\': serve https and wss. Read again when it changes, and on SIGHUP' -r -F
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l tls-key -d 'The certificate\'s private key (PEM)' -r -F
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l tls-handshake-seconds -d 'Seconds that a client has for its TLS handshake' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l redirect-listen -d 'Listen here too, without TLS, and send every request on to https' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l data-dir -d 'Directory of the embedded store, which is used when no database is given' -r -F
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-tables -d 'Tables of the embedded store, products among them: a row under a new name makes another as long as there are fewer' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l database-url -d 'Postgres, as postgres://user:password@host:port/name?sslmode=…; `DATABASE_URL` does too' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l table -d 'Table of the database, beside products, whose rows are cast; may be given several times, and as a list with commas. Its key is its primary key unless a column is named that is NOT NULL and unique, as in shop.customers:customer_no. Names are as in SQL, double quotes included. Postgres adds a column `rowcast_version` and three triggers to it' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l hide -d 'Column of a table that never leaves the server, as in users.password_hash: neither by change nor by read nor in the answer of a write; may be given several times, and as a list with commas. Not the key. It can still be written' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l cores -d 'Threads that hold the connections and fan out [default: one per processor]' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l shards -d 'Slices of the products, each owned by one core [default: one per core]' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l gather-ms -d 'Milliseconds that a core without time to spare lets changes gather at most, to deliver more of them with each write. Raises what an overloaded server delivers, and how late. 0 delivers at once whatever the load' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l last-values-bytes -d 'Bytes of last values that all shards remember together: of each product that a reader asked for the newest change or row, so that the next one is answered without the store. Above it, what is used least is forgotten and read again when it is asked for' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l wildcard-rows -d 'The most rows that the store may have for a reader to subscribe to "*", which is all of them: their ids and versions are kept in memory meanwhile, about 90 bytes each. While the table has grown above it, whoever is subscribed stays, and further readers are refused' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l slow-consumer -d 'What gives way when a reader is too slow' -r -f -a "conflate\t'The newest state of each row comes as the reader drains, older changes are skipped'
drop\t'The oldest change that waits is dropped'
disconnect\t'The connection is closed with code 1013'"
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l send-queue-frames -d 'Changes that may wait for one socket' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l send-queue-bytes -d 'Bytes of changes that may wait for one socket' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-connections -d 'WebSockets and event streams at once; one more is answered 503' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-connections-per-address -d 'WebSockets at once from one address (IPv6: from one /64); one more is answered 503. 0 sets no limit, as is right behind a proxy, from whose address all come' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-http-sockets -d 'Sockets at once that are not WebSockets: those with requests, and those in their handshake. One more is answered 503 and closed' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-http-sockets-per-address -d 'Of those, sockets from one address (IPv6: from one /64); 0 sets no limit' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l handshakes-per-second -d 'WebSockets that may open in a second, and as many at once after a quiet second; one more is answered 503 and told when to come back. 0 sets no limit' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l header-timeout-seconds -d 'Seconds in which the head of a request must arrive; also how long a socket may be silent between two requests' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l body-timeout-seconds -d 'Seconds in which the body of a request must arrive; 408 then' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l write-timeout-seconds -d 'Seconds in which a client must take 16 KiB of an answer, or the rest of it; its request is cut otherwise' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-header-bytes -d 'Bytes of a request\'s first line and headers; 431 above' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-body-bytes -d 'Bytes of a request\'s body; 413 above' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-bodies-bytes -d 'Bytes that all bodies hold together, from their arrival until their request is answered; one more is answered 503. An HTTP/2 connection may hold a quarter of them' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-answers-bytes -d 'Bytes of rows that all answers hold together while their readers take them (64 KiB each, or one row); one more waits, and is answered 503 after 2 seconds. An HTTP/2 connection may hold a quarter of them' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l http2-max-streams -d 'Requests and WebSockets at once on one HTTP/2 connection; what is above is refused. Each may make the server keep 48 KiB' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-message-bytes -d 'Bytes of a message from a WebSocket; closed with 1009 above. The page sends up to 20,000' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l commands-per-second -d 'Units of work that one WebSocket may ask for in a second; what is above waits in the socket. A frame is a unit: a command, a ping, a pong, a fragment of any length. So is each further 4 KiB of a message. 0 sets no limit' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l ping-seconds -d 'Seconds of silence after which a WebSocket is pinged; one that is silent for three times as long is closed with 1008. An event stream is sent a comment, and closed if its socket takes nothing for three times as long. Keep it below what proxies on the way allow an idle connection (often 30 or 60 seconds)' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l max-subscriptions -d 'Rows that one connection may subscribe to' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l drain-seconds -d 'Seconds over which a server that stops closes its WebSockets; 0 closes all at once' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l log-format -d 'How log lines are written to standard error' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l allow-anonymous -d 'Listen on an address that other machines reach although there is no --jwt-key, so that anybody there may read and write'
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l no-migrate -d 'Change nothing in the database at the start: where a migration, or a part of a table, is missing, say which `rowcast migrate` makes it, and end. For a server whose role may not'
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -l no-products -d 'Neither make nor serve the built-in table products, which is otherwise there without being named. A table of yours with that name is cast by --table products, and is then one like any other'
complete -c rowcast -n "__fish_rowcast_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rowcast -n "__fish_rowcast_using_subcommand migrate" -l database-url -d 'Postgres, as postgres://user:password@host:port/name?sslmode=…; `DATABASE_URL` does too' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand migrate" -l table -d 'Table of the database, beside products, whose rows are cast; may be given several times, and as a list with commas. Its key is its primary key unless a column is named that is NOT NULL and unique, as in shop.customers:customer_no. Names are as in SQL, double quotes included. Postgres adds a column `rowcast_version` and three triggers to it' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand migrate" -l log-format -d 'How log lines are written to standard error' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c rowcast -n "__fish_rowcast_using_subcommand migrate" -l no-products -d 'Neither make nor serve the built-in table products, which is otherwise there without being named. A table of yours with that name is cast by --table products, and is then one like any other'
complete -c rowcast -n "__fish_rowcast_using_subcommand migrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rowcast -n "__fish_rowcast_using_subcommand unmigrate" -l database-url -d 'Postgres, as postgres://user:password@host:port/name?sslmode=…; `DATABASE_URL` does too' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand unmigrate" -l table -d 'Table of the database, beside products, whose rows are cast; may be given several times, and as a list with commas. Its key is its primary key unless a column is named that is NOT NULL and unique, as in shop.customers:customer_no. Names are as in SQL, double quotes included. Postgres adds a column `rowcast_version` and three triggers to it' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand unmigrate" -l log-format -d 'How log lines are written to standard error' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c rowcast -n "__fish_rowcast_using_subcommand unmigrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rowcast -n "__fish_rowcast_using_subcommand cert" -l host -d 'Name or address that the certificate is for; may be given several times [default: this machine\'s]' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand cert" -l out -d 'Directory to write cert.pem and key.pem to' -r -F
complete -c rowcast -n "__fish_rowcast_using_subcommand cert" -l log-format -d 'How log lines are written to standard error' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c rowcast -n "__fish_rowcast_using_subcommand cert" -l force -d 'Replace the files if they are there'
complete -c rowcast -n "__fish_rowcast_using_subcommand cert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -l table -d 'The table whose rows these are, by the name that the server has for it, as in: watch --table shop.orders \'*\' [default: products, by their ids]' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -l url -d 'The server: ws://, wss://, http:// or https://, with the path under which it is served if there is one' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -l token -d 'Token, where the server wants one; better in the variable, since other users of this machine see command lines' -r
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -l ca -d 'Certificates to trust under wss:// (PEM), such as the one that `rowcast cert` made [default: the system\'s]' -r -F
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -l format -d 'How rows are shown [default: table on a terminal, else json]' -r -f -a "table\t'A table of the rows as they are, which follows their changes'
json\t'Each message in a line, as it came'"
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -l log-format -d 'How log lines are written to standard error' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -l insecure -d 'Under wss://, trust whatever certificate the server has'
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -l once -d 'Show the rows as they are, and end'
complete -c rowcast -n "__fish_rowcast_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rowcast -n "__fish_rowcast_using_subcommand help; and not __fish_seen_subcommand_from serve migrate unmigrate cert watch help" -f -a "serve" -d 'Serve the page, the REST API and the WebSockets (this is the default)'
complete -c rowcast -n "__fish_rowcast_using_subcommand help; and not __fish_seen_subcommand_from serve migrate unmigrate cert watch help" -f -a "migrate" -d 'Bring a Postgres database\'s tables and triggers up to date, and exit; `serve` does it too'
complete -c rowcast -n "__fish_rowcast_using_subcommand help; and not __fish_seen_subcommand_from serve migrate unmigrate cert watch help" -f -a "unmigrate" -d 'Take away again what `migrate --table` installed on tables of a Postgres database'
complete -c rowcast -n "__fish_rowcast_using_subcommand help; and not __fish_seen_subcommand_from serve migrate unmigrate cert watch help" -f -a "cert" -d 'Make a certificate for development: cert.pem and key.pem, signed by nobody but itself'
complete -c rowcast -n "__fish_rowcast_using_subcommand help; and not __fish_seen_subcommand_from serve migrate unmigrate cert watch help" -f -a "watch" -d 'Show products as they are and as they change, of a server that runs'
complete -c rowcast -n "__fish_rowcast_using_subcommand help; and not __fish_seen_subcommand_from serve migrate unmigrate cert watch help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
