"""Templates of the corpus; `<LIST>` is replaced by a word of that list in words.py, `<N>` by a number."""

from __future__ import annotations

GREETINGS = (
    "Hello! How are you today?",
    "Hi, I'm <NAMES>. Nice to meet you!",
    "Good morning! What can I do for you?",
    "Good evening, <NAMES>. How was your day?",
    "Thanks a lot, that's very helpful.",
    "You're welcome! Let me know if there's anything else.",
    "Hey there, could you help me with something?",
    "Please tell me about the <THINGS> in <CITIES>.",
    "Sorry, I don't know. I can't answer that, but I'll try.",
    "Goodbye, and have a great day! See you <TIMES>.",
    "Grüezi! Olá! ¿Qué tal? Ça va très bien — merci, señor. Schöne Grüße, café, naïve, “quoted” … 10 € • ✓ →",
    "你好，世界！ こんにちは。 안녕하세요! Привет, мир. 😀 👍",
)

REASONING = (
    "The user asks about the <THINGS>. I should answer briefly.",
    "Let me think step by step. First, I need to find the <SCIENCE>.",
    "Okay, so the question is whether the <ANIMALS> is <ADJECTIVES>. It isn't.",
    "I need to call a tool here, because I don't know the <SCIENCE> of <CITIES>.",
    "Wait, that's wrong. We've <N> and they've <N>, so there are <N> left.",
    "The picture shows a <COLOURS> <SHAPES> and a <COLOURS> <SHAPES> on a <COLOURS> background.",
    "Therefore the answer must be <N>. Let me check it once more: <N> is correct.",
)

SENTENCES = (
    "The <ADJECTIVES> <ANIMALS> <PAST> <LINKS> the <THINGS>.",
    "<NAMES> <PAST> the <THINGS> <ADVERBS>, and the <PEOPLE> <PAST> <ADVERBS>.",
    "What is the capital of <COUNTRIES>? The capital of <COUNTRIES> is <CITIES>.",
    "On <TIMES> the weather in <CITIES> will be <ADJECTIVES>, with <SCIENCE> and <SCIENCE> in the <TIMES>.",
    "It's <ADJECTIVES> to <VERBS> a <COLOURS> <THINGS>; they're <ADVERBS> <ADJECTIVES>.",
    "How do I <VERBS> <NUMBERS> <FOODS>s? You can <VERBS> them <LINKS> the <THINGS>.",
    "If you <VERBS> the <COMPUTING>, the <COMPUTING> doesn't <VERBS>, because it wasn't <ADJECTIVES>.",
    "My <PEOPLE> would like to <VERBS> <FOODS> and <FOODS> with <FOODS>.",
    "There is a <SHAPES> in the <COLOURS> image, <LINKS> the <THINGS>.",
    "Why does the <SCIENCE> <VERBS>? Because every <SCIENCE> has a <ADJECTIVES> <SCIENCE>.",
    "We've <PAST> <NUMBERS> <THINGS>s since <TIMES>, but she hasn't <PAST> her <THINGS>.",
    "Once upon a time a <ADJECTIVES> <PEOPLE> <PAST> to <CITIES> with his <ANIMALS>.",
    "This is what we know: the <COMPUTING> should <VERBS> the <COMPUTING> <ADVERBS>.",
    "They said that their <PEOPLE> could not <VERBS> any <ADJECTIVES> <THINGS>s.",
    "Write a <ADJECTIVES> story about the <PEOPLE> who <PAST> the <ANIMALS>.",
    "Translate the following text into <COUNTRIES>'s language, please.",
    "I have been <VERBS>ing and <VERBS>ing for <NUMBERS> <TIMES>s.",
)

SNIPPETS = (
    "def <VERBS>_<COMPUTING>(<COMPUTING>, <THINGS>=None):\n    return <COMPUTING> + <N>\n",
    "for i in range(<N>):\n    if i % 2 == 0:\n        print(i, end=' ')\n",
    "class <NAMES>:\n    def __init__(self, <COMPUTING>: int) -> None:\n        self.<COMPUTING> = <N>\n",
    "import json\n\nwith open('<COMPUTING>.json') as file:\n    data = json.load(file)\n",
    "const <COMPUTING> = (<THINGS>) => { return <THINGS>.length > <N>; };\n",
    "SELECT <COMPUTING>, COUNT(*) FROM <THINGS>s WHERE <COMPUTING> = '<CITIES>' GROUP BY <COMPUTING>;\n",
    "| <COMPUTING> | <THINGS> |\n| --- | --- |\n| <N> | <COLOURS> |\n",
    "# <COMPUTING>\n\n- **<THINGS>**: <ADJECTIVES>\n- `<COMPUTING>`: <N>\n\n1. <VERBS>\n2. <VERBS>\n",
    '<ul class="<COMPUTING>">\n  <li><a href="https://example.com/<COMPUTING>?q=<N>"><THINGS></a></li>\n</ul>\n',
    'curl -X POST http://localhost:<N>/v1/chat/completions -d \'{"model": "kimi"}\'\n',
    "try:\n    <COMPUTING>.<VERBS>()\nexcept ValueError as error:\n    raise RuntimeError(str(error))\n",
    'x = <N>\ny = x ** 2 + <N>\nassert y != <N>, "wrong <COMPUTING>"\n',
)
