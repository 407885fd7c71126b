"""Messages of the C library, bash and R in other languages than English, from their own translations (glibc 2.36, R 4.2)."""

import re
from typing import Tuple


def _any_encoding(*phrases: str) -> Tuple[str, ...]:
    """Let each accented letter stand for one or two signs: logs may be in Latin-1, or in ASCII with question marks."""
    return tuple(re.sub("[\u00c0-\u00ff]", ".{1,2}", phrase) for phrase in phrases)


# German, French, Spanish, Italian, Portuguese, Japanese, Chinese.
NO_MEMORY = _any_encoding(
    "Nicht genügend (?:Haupts|freier S|S)peicher", "[Kk]ann (?:keinen )?Speicher nicht (?:zuweisen|allozieren|reservieren)",
    "(?:Ne peut|[Ii]mpossible d')[ ]?allouer de la mémoire", "No se (?:pudo|puede) asignar (?:la )?memoria",
    "Impossibile allocare (?:la )?memoria", "(?:Não foi possível|Impossível) alocar memória",
    "メモリを確保できません", "メモリを割り当てることができません", "无法分配内存",
    "kann Vektor der Größe .{1,40} nicht allozieren", "impossible d'allouer un vecteur de taille",
    "no se puede (?:ubicar|asignar) un vector de tamaño", "non è possibile allocare un vettore di dimensione",
    "não é possível alocar vetor de tamanho", "のベクトルを割り当てることができません", "无法分配大小为",
)  # fmt: skip
NO_PROCESS = _any_encoding(
    "fork: .{0,40}Ressource (?:ist )?zur Zeit nicht verfügbar", "fork: .{0,40}Ressource temporairement non disponible",
    "fork: .{0,40}Recurso no disponible temporalmente", "fork: .{0,40}Risorsa temporaneamente non disponibile",
    "fork: .{0,40}Recurso temporariamente indisponível", "fork: .{0,40}リソースが一時的に利用できません",
    "fork: .{0,40}资源暂时不可用",
)  # fmt: skip
CRASH = _any_encoding(
    "Speicherzugriffsfehler", "Erreur de segmentation", "(?:Violación|Fallo) de segmento", "Errore di segmentazione",
    "Falha de segmentação", "段错误",
)  # fmt: skip
NO_SPACE = _any_encoding(
    "Auf dem Gerät ist kein Speicherplatz mehr verfügbar", "Plattenplatz .Quota. ist überschritten",
    "Aucun espace disponible sur le périphérique", "Débordement du quota d'espace disque",
    "No queda espacio en el dispositivo",
    "Se ha excedido la cuota de disco", "Spazio esaurito sul device", "Quota disco superata",
    "Não há espaço disponível no dispositivo", "Sem espaço livre no dispositivo", "Cota d[ae] disco excedida",
    "デバイスに空き領域がありません", "ディスク使用量制限を超過しました", "设备上没有空间", "超出磁盘限额",
)  # fmt: skip
STORAGE = _any_encoding(
    "Veraltete Dateizugriffsnummer", "Eingabe-/Ausgabefehler", "Der Socket ist nicht verbunden",
    "Panne d'accès au fichier", "Erreur d'entrée/sortie", "Noeud final de transport n'est pas connecté",
    "handle' de fichero en desuso",
    "Error de entrada/salida", "El otro extremo de la conexión no está conectado", "Errore di input/output",
    "Il socket di destinazione non è connesso", "Manipulador de arquivo corrompido", "Erro de entrada/saída",
    "Ponto final de transporte não está conectado", "入力/出力エラーです",
    "通信端点が接続されていません", "过旧的文件控柄", "输入/输出错误",
    "传输端点尚未连接",
)  # fmt: skip
NO_NETWORK = _any_encoding(
    "Das Netzwerk ist nicht erreichbar", "Keine Route zum Zielrechner", "Temporärer Fehler bei der Namensauflösung",
    "Der Name oder der Dienst ist nicht bekannt", "Le réseau n'est pas accessible",
    "Aucun chemin d'accès pour atteindre l'hôte",
    "Échec temporaire dans la résolution du nom", "Nom ou service inconnu", "La red es inaccesible",
    "Fallo temporal en la resolución del nombre", "Nombre o servicio desconocido", "La rete non è raggiungibile",
    "Errore temporaneo nella risoluzione del nome", "Nome o servizio sconosciuto", "A rede está fora de alcance",
    "Falha temporári[ao] na resolução de nome", "Nome ou serviço desconhecido", "ネットワークに届きません",
    "名前解決に一時的に失敗しました", "名前またはサービスが不明です",
    "网络不可达", "没有到主机的路由", "域名解析暂时失败", "未知的名称或服务",
)  # fmt: skip
NO_COMMAND = _any_encoding(
    "Kommando nicht gefunden", "Befehl nicht gefunden", "commande (?:introuvable|non trouvée)", "orden no encontrada",
    "no se encontró la orden", "comando non trovato", "comando não encontrado", "コマンドが見つかりません", "未找到命令",
)  # fmt: skip
NO_PACKAGE = _any_encoding(
    "es gibt kein Paket namens", "aucun package nommé .{1,200} n'est trouvé", "no hay (?:un )?paquete llamado",
    "non c'è alcun pacchetto chiamato", "não há (?:nenhum )?pacote chamado", "という名前のパッケージはありません",
    "不存在叫.{1,200}(?:程辑包|程序包)",
)  # fmt: skip
NO_FILE = _any_encoding(
    "Datei oder Verzeichnis nicht gefunden", "Aucun fichier ou (?:dossier|répertoire) de ce (?:type|nom)",
    "No existe el (?:fichero|archivo) o el directorio", "File o directory non esistente", "Arquivo ou diretório inexistente",
    "Ficheiro ou pasta inexistente", "そのようなファイルやディレクトリはありません", "没有那个文件或目录",
)  # fmt: skip
NO_PERMISSION = _any_encoding(
    "Keine Berechtigung$", "Das Dateisystem ist nur lesbar", "Permission non accordée", "Permission refusée",
    "Système de fichiers accessible en lecture seulement", "Permiso denegado", "Sistema de ficheros de sólo lectura",
    "Permesso negato", "File system in sola lettura", "Permissão (?:negada|recusada)",
    "Sistema de arquivos somente para leitura",
    "許可がありません", "読み込み専用ファイルシステムです", "权限不够", "只读文件系统",
)  # fmt: skip
# How R begins the message of an error.
ERROR_START = (
    "Fehler in ", "Fehler: ", "Erreur dans ", "Erreur : ", "Error en ", "Errore in ", "Errore: ", "Erro em ", "Erro: ",
    "\\s?以下にエラー", "\\s?エラー: ", "错误于", "错误: ",
)  # fmt: skip
