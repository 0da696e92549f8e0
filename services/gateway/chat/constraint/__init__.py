"""What an answer is held to: tools, tool_choice and response_format, made a grammar for the decode worker."""
