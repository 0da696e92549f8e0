"""The words of the corpus: lists of our own, one theme each."""

from __future__ import annotations

NAMES = (
    "Ada Anna Ben Bruno Carla Clara Daniel David Elena Emma Felix Fiona George Grace Hanna Hugo Ines Ivan Jana"
    " Jonas Julia Karl Lea Leon Lina Maria Martin Mira Nina Noah Olga Oscar Paul Petra Rosa Sam Sofia Theo Tom"
    " Vera Victor Yara Zoe"
).split()

CITIES = (
    "Athens Berlin Bern Cairo Delhi Dublin Geneva Hamburg Lima Lisbon London Madrid Milan Nairobi Oslo Paris"
    " Prague Rome Seoul Shanghai Sydney Tokyo Toronto Vienna Warsaw Zurich"
).split()

COUNTRIES = (
    "Austria Brazil Canada China Egypt England France Germany Greece India Ireland Italy Japan Kenya Mexico"
    " Norway Poland Portugal Spain Sweden Switzerland"
).split()

COLOURS = "black blue brown gold green grey orange pink purple red silver white yellow".split()

SHAPES = "circle square triangle rectangle star line dot cross arrow diamond".split()

ANIMALS = (
    "ant bear bee bird butterfly cat cow dog duck eagle elephant fish fox frog goat goose hare hen horse lion"
    " mouse owl pig rabbit sheep snake spider tiger whale wolf"
).split()

FOODS = (
    "apple banana beans bread butter cake carrot cheese cherry chicken chocolate coffee cream egg flour garlic"
    " grape honey jam juice lemon lettuce mango milk mushroom noodles oil olive onion pasta peach pear pepper"
    " pizza potato rice salad salt sandwich soup spinach strawberry sugar tea tomato water wine yoghurt"
).split()

THINGS = (
    "address answer bag ball basket bed bell bicycle boat book bottle box bridge bus button camera candle car"
    " card chair clock cloud coat coin computer cup desk door drawing engine envelope file flower fork garden"
    " glass glove hammer hat hill house image island jacket key kitchen knife ladder lake lamp leaf letter"
    " library list machine map market message mirror mountain museum needle newspaper note number office page"
    " paper park pencil phone photo piano picture pillow plane plant plate pocket question radio ribbon ring"
    " river road rock roof room rope school screen shelf ship shirt shoe shop sign station stone street table"
    " tent ticket tower toy train tree umbrella valley village wall watch wheel window word"
).split()

PEOPLE = (
    "artist author baker brother captain child cook daughter doctor driver engineer farmer father friend guest"
    " judge lawyer mother neighbour nurse painter parent player pilot sailor scientist sister son student"
    " teacher traveller uncle waiter worker writer"
).split()

ADJECTIVES = (
    "able bright broken busy careful cheap clean clear clever cold common correct dark deep different dry early"
    " easy empty expensive fast fresh friendly full gentle good happy hard heavy helpful high honest hot huge"
    " important interesting kind large late light little long loud low narrow new nice old open patient plain"
    " possible quick quiet ready rich right rough round sad safe sharp short simple slow small soft special"
    " strange strong sudden sweet tall thin tired useful warm weak whole wide wild wrong young"
).split()

VERBS = (
    "add answer ask begin borrow bring build buy call carry catch change check choose clean climb close collect"
    " compare compute cook copy count cover cut decide describe divide draw drink drive drop eat end explain"
    " fall fill find finish follow forget get give go grow guess have hear help hide hold hope join jump keep"
    " know laugh learn leave lend list listen look lose love make mean measure meet mention move multiply name"
    " need notice open order paint pass pay pick plan plant play point prepare press pull push put read"
    " receive remember remove repeat reply rest return ride run save say search see sell send serve share show"
    " sing sit sleep solve sort speak spend stand start stay stop study subtract suggest swim take talk teach"
    " tell think throw touch train translate travel try turn understand use visit wait walk want wash watch"
    " wear win wish work worry write"
).split()

PAST = (
    "added asked began bought brought built called carried changed checked chose cleaned closed collected"
    " counted decided drew drove ended explained felt filled finished followed forgot found gave grew heard"
    " helped held hoped kept knew learned left liked looked lost made met moved needed opened ordered paid"
    " painted passed picked planned played pulled put ran reached remembered returned said sang sat saw sent"
    " shared showed slept sold spoke spent started stayed stopped talked thought threw told took travelled"
    " tried turned used visited waited walked wanted washed watched went won wore worked wrote"
).split()

ADVERBS = (
    "again ago almost already also always away carefully daily early easily enough even ever exactly finally"
    " first gently here however indeed instead just later maybe mostly nearly never now often once only perhaps"
    " quickly quietly quite rather really sadly simply slowly sometimes soon still suddenly then there therefore"
    " today together tomorrow too twice usually very well yesterday yet"
).split()

LINKS = (
    "about above across after against along among and around as at because before behind below beside between"
    " beyond but by down during for from if in inside into like near of off on onto or out outside over past"
    " since so than that though through to towards under until up upon when where which while who whose with"
    " within without"
).split()

SCIENCE = (
    "air atom average axis body bone brain cell centre circle degree distance earth electricity energy equation"
    " example experiment fact factor force fraction function gas gravity half heat ice integer length light"
    " magnet mass matter maximum metal minimum moon number ocean oxygen percent planet point power prime product"
    " proof quarter rain remainder result science seed snow sound speed square star sum sun surface temperature"
    " theory thunder time value volume wave weather weight wind zero"
).split()

TIMES = (
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August"
    " September October November December morning noon afternoon evening night minute hour day week month year"
    " second spring summer autumn winter"
).split()

NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million"
).split()

COMPUTING = (
    "algorithm argument array branch browser buffer byte cache class client code column command compile config"
    " connection data database debug default device directory document download email error event exception"
    " field file folder format function graph hash header host index input install integer interface key"
    " keyboard language library link list loop memory message method model module network node object offset"
    " output package page parameter parse path pointer port process program prompt protocol query queue random"
    " record recursion request response result router row schema script search server session shell socket"
    " source stack status storage stream string struct syntax system table test text thread timeout token tree"
    " tuple type update upload user value variable vector version website worker"
).split()

PROGRAM_WORDS = (
    "def return class import from for while if elif else try except finally raise with as pass break continue"
    " lambda yield None True False self print range len int str float bool list dict set async await assert"
    " isinstance enumerate sorted append items keys values join split format open read write close function"
    " const let var null undefined export typeof interface namespace extends public static void struct enum"
    " SELECT FROM WHERE ORDER BY GROUP INSERT UPDATE CREATE TABLE LIMIT"
).split()

FORMAT_WORDS = (
    "system user assistant tool tool_declare tools functions namespace type string number boolean array object"
    " integer any null image video name description parameters properties required enum items default minimum"
    " maximum arguments content role think function call result Return of additionalProperties"
).split()
