#!/bin/sh
# Stands in for the process of a server that runs elsewhere: says that server's address, and waits to be ended.
echo $$ >> "$STAND_IN_PID"
echo "Rowcast is live at http://$STAND_IN_ADDRESS"
exec sleep 600
