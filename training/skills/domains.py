"""What tools are about: how they are named, described and asked for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Parameter:
    """`names`: what it may be called; `kind`: what its values are, see `tool_values`."""

    names: str
    kind: str
    description: str


@dataclass(frozen=True)
class Domain:
    """`requests` are wordings with a field {0}, {1}, ... for each parameter's value; `setting`: an optional
    parameter with the values it may have, and `setting_phrase`, how a request names one.
    """

    verbs: str
    nouns: str
    descriptions: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    requests: tuple[str, ...]
    setting: tuple[str, ...] = ()
    setting_phrase: str = " in {setting}"
    setting_names: str = field(default="unit")


_CITY = Parameter("city location place town area", "city", "[The|Name of the] [city|place|town][ to look up|]")
_PERSON = Parameter("person name contact user member", "person", "[The|Name of the] person")
_PRODUCT = Parameter("product item article query name", "food", "[The|Name of the] [product|item]")

DOMAINS = (
    Domain(
        "get fetch find check lookup show read current",
        "weather forecast weather_report weather_now",
        ("[Get|Fetch|Returns|Look up] the [current |]weather [in|for|of] a [city|place|location].",
         "[Current |]weather [conditions |][by|for a] city."),
        (_CITY,),
        ("[What's|What is|How is] the weather[ like|] in {0}[| today| now| right now]?",
         "[Tell me|Show me|Check|Get] the weather [in|for] {0}[, please|].",
         "[Is it|Will it be] [sunny|cold|warm|raining] in {0}[| today| tomorrow]?"),
        ("celsius", "fahrenheit"),
    ),
    Domain(
        "get fetch find check show tell local",
        "time clock local_time hour",
        ("[Get|Returns|Look up] the [current |local |]time in a [city|place].",),
        (_CITY,),
        ("What time is it in {0}[| now| right now]?", "[Tell me|Show me|Give me] the [local |current |]time in {0}."),
    ),
    Domain(
        "get find count lookup query",
        "population inhabitants residents",
        ("[Get|Returns|Find] the population of a [city|town].",),
        (_CITY,),
        ("[What is|Tell me] the population of {0}[?|.]", "How many people live in {0}?"),
    ),
    Domain(
        "find search book list get reserve",
        "hotel hotels room accommodation",
        ("[Find|Search|List] hotels in a [city|place].", "[Book|Reserve] a [hotel |]room in a city."),
        (_CITY, Parameter("nights days stay num_nights", "number", "[Number of|How many] nights")),
        ("[Find|Book|Get me|I need] a hotel in {0} for {1} nights[.|, please.]",
         "[I want to stay|We stay] {1} nights in {0}[. Find a hotel.|, find me a hotel.]"),
    ),
    Domain(
        "find search book get list plan",
        "flight flights trip connection",
        ("[Find|Search|Book] [a flight|flights] [between|from one to another of] two cities.",),
        (Parameter("origin source start departure from_city", "city", "[City|Where] the flight starts"),
         Parameter("destination target arrival to_city goal", "city", "[City|Where] the flight goes")),
        ("[Find|Book|Search|I need] a flight from {0} to {1}[.|, please.]", "[How do I fly|Fly me] from {0} to {1}[?|.]"),
    ),
    Domain(
        "get compute measure calculate find",
        "distance route path way",
        ("[Get|Compute|Returns] the distance [between|of] two [places|cities].",),
        (Parameter("origin source start first_place", "city", "[Where it starts|First place]"),
         Parameter("destination target end second_place", "city", "[Where it ends|Second place]")),
        ("[How far is it|What is the distance] from {0} to {1}?", "[Compute|Tell me] the distance [between {0} and|from {0} to] {1}."),
        ("km", "miles"),
    ),
    Domain(
        "get find search lookup show",
        "recipe recipes dish cooking_steps",
        ("[Get|Find|Search] a recipe [for|of] a [dish|food].",),
        (Parameter("dish food meal query ingredient", "food", "[The|Name of the] [dish|food]"),),
        ("[How do I cook|How can I make|How do you make] {0}?", "[Find|Get|Give me|I need] a recipe for {0}[, please|]."),
    ),
    Domain(
        "get check find lookup query",
        "price cost product_price rate",
        ("[Get|Look up|Returns] the price of a [product|item].",),
        (_PRODUCT,),
        ("[What does {0} cost|How much is {0}|What is the price of {0}]?", "[Tell me|Check|Get] the price of {0}."),
        ("dollars", "euros"), " in {setting}", "currency",
    ),
    Domain(
        "search find lookup browse query",
        "product products catalog items shop",
        ("[Search|Look] for a product [in the shop|in the catalog|].",),
        (_PRODUCT,),
        ("[Search for|Find|Look for] {0}[ in the shop| in the catalog|].", "[Do you have|Where can I buy] {0}?"),
    ),
    Domain(
        "send write mail compose",
        "email message note mail letter",
        ("[Send|Write] [an email|a message] to a person.",),
        (_PERSON, Parameter("subject topic title about", "thing", "[What it is about|The subject]")),
        ("[Send|Write] [an email|a message] to {0} about the {1}[, please|].", "[Email|Message|Mail] {0} about the {1}."),
    ),
    Domain(
        "get find lookup search fetch",
        "phone phone_number contact number",
        ("[Get|Find|Look up] the phone number of a person.",),
        (_PERSON,),
        ("What is [the phone number of {0}|{0}'s phone number]?", "[Find|Get|Look up] the phone number of {0}."),
    ),
    Domain(
        "call phone dial ring",
        "person contact someone",
        ("[Call|Phone] a person.",),
        (_PERSON,),
        ("[Call|Phone|Ring|Dial] {0}[, please| now|].", "[I want|I need] to [call|phone] {0}."),
    ),
    Domain(
        "set start create add make",
        "alarm timer wakeup clock_alarm",
        ("[Set|Start] [an alarm|a timer] [for|of] some minutes.",),
        (Parameter("minutes duration length num_minutes", "number", "[Number of|How many] minutes"),),
        ("[Set|Start] [an alarm|a timer] for {0} minutes[, please|].", "Wake me in {0} minutes."),
    ),
    Domain(
        "create add set make schedule",
        "reminder task todo appointment",
        ("[Create|Add] a reminder [about something|].",),
        (Parameter("subject text about content topic", "thing", "What to remember"),
         Parameter("day date weekday when", "day", "[Day of the week|The day]")),
        ("[Remind me|Add a reminder] [of|about] the {0} on {1}[, please|].", "[Create|Set] a reminder for {1} about the {0}."),
    ),
    Domain(
        "switch turn set control toggle",
        "light lamp lights lighting",
        ("[Switch|Turn] [a light|the light of a room] on or off.",),
        (Parameter("room place location name", "room", "[The|Name of the] room"),
         Parameter("state mode action value", "on or off", "on or off")),
        ("[Turn|Switch] {1} the [light|lamp|lights] in the {0}[, please|].", "[Turn|Switch] the {0} [light|lights] {1}."),
    ),
    Domain(
        "set change adjust control",
        "temperature heating thermostat",
        ("[Set|Change] the [temperature|heating] of a room.",),
        (Parameter("room place location name", "room", "[The|Name of the] room"),
         Parameter("degrees value target temperature", "number", "[Degrees|Temperature in degrees]")),
        ("[Set|Change] the [temperature|heating] in the {0} to {1}[ degrees|].", "[Make it|Heat to] {1} degrees in the {0}."),
    ),
    Domain(
        "play start put_on stream",
        "song music track tune",
        ("[Play|Start] [a song|music] [by|of] an artist.",),
        (Parameter("artist singer band performer", "person", "[The|Name of the] [artist|singer]"),),
        ("[Play|Put on] [a song|music|something] by {0}[, please|].", "[I want|I would like] to [hear|listen to] {0}."),
    ),
    Domain(
        "get check track find lookup",
        "order order_status shipment parcel delivery",
        ("[Get|Check|Track] the [status|state] of an order.",),
        (Parameter("order_id id number order_number", "number", "[The|Number of the] order"),),
        ("[Where is|What is the status of|Track|Check] [my |]order {0}[?|.]", "[Has|When will] order {0} [arrive|arrived]?"),
    ),
    Domain(
        "translate convert say",
        "word text phrase term",
        ("[Translate|Convert] a word [into another language|to a language].",),
        (Parameter("word text phrase term", "thing", "[The word|What to translate]"),
         Parameter("language target lang to_language", "language", "[The language|Language] to translate [to|into]")),
        ("[Translate|Say] {0} [in|into|to] {1}[, please|].", "What is {0} in {1}?", "How do you say {0} in {1}?"),
    ),
    Domain(
        "define explain lookup get",
        "word definition meaning term",
        ("[Look up|Get] the [definition|meaning] of a word.",),
        (Parameter("word term entry text", "thing", "[The word|Word] to look up"),),
        ("[What is the meaning of|Define|What is the definition of] {0}[?|.]", "What does {0} mean?"),
    ),
    Domain(
        "get find lookup fetch",
        "capital capital_city main_city",
        ("[Get|Find|Returns] the capital of a country.",),
        (Parameter("country nation state land", "country", "[The|Name of the] country"),),
        ("What is the capital of {0}?", "[Tell me|Find] the capital of {0}."),
    ),
    Domain(
        "search find list get recommend",
        "restaurant restaurants places_to_eat diner",
        ("[Search|Find] restaurants in a [city|place].",),
        (_CITY, Parameter("food dish cuisine meal", "food", "[What to eat|The food]")),
        ("[Find|Search for|I want] a restaurant in {0} [with|for|that has] {1}.", "Where can I eat {1} in {0}?"),
    ),
)  # fmt: skip
